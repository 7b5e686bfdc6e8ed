"""What a daemon says to its service manager and to its log: the protocol of sd_notify(3), and lines of the journal.

Both daemons use it; it knows nothing of networks.
"""
