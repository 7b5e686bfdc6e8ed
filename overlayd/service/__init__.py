"""What a daemon is as a process: the protocol of sd_notify(3), lines of the journal, and the threads that it has.

Both daemons use it; it knows nothing of networks.
"""
