"""The HTTP server of a controller below the application.

Sockets, TLS handshakes, and bounds on connections without a token.
"""
