"""The HTTP server of a controller below the application.

Sockets, TLS handshakes, bounds on connections without a token, and the addresses of this machine.
"""
