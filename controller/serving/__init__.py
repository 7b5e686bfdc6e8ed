"""A controller that serves: from bound sockets and settings to the end of the process.

`service` has the order of a start and of a stop; the other files are its parts.
"""
