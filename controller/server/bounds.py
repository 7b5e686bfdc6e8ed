"""Bounds on connections to a controller, in time and in number, before they have shown a token and after."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionBounds:
    """Times are in seconds.

    `handshake` is for TLS: three round trips, and little work. `farewell` is what a peer has to answer the end of TLS.
    `head` counts from the beginning of a connection, or of a further request on it, to the end of the head; `body`
    from there to the end of the body, which has at most a megabyte.

    `peer` is how many connections without a token one address may have (one /64 in IPv6, which is one network: RFC
    4291, section 2.5.4), and `strangers` how many there may be of all addresses together. `token` is how many may have
    shown the same token: an agent has fewer than ten.
    """

    handshake: float = 10.0
    farewell: float = 2.0
    head: float = 10.0
    body: float = 30.0
    peer: int = 128
    strangers: int = 1024
    token: int = 256


BOUNDS = ConnectionBounds()
