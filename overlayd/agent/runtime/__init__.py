"""What a long-lived asynchronous process needs, whatever it does.

Signals, back-off, locks, threads, sockets, logs. Nothing here knows of networks, controllers or containers.
"""
