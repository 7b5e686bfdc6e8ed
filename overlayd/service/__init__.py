"""What a daemon says to the service manager and to its log: the protocol of sd_notify(3), and lines of the journal."""
