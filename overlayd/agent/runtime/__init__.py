"""Building blocks of a long-lived asynchronous process.

Signals, back-off, locks, threads, sockets, logs. Nothing here knows of networks, controllers or containers.
"""
