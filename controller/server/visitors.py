"""Bounds on the number of connections to a controller, by caller.

A connection costs a descriptor and memory. Strangers therefore have a bounded number of them, for each IPv4
address or IPv6 /64, and in total.
What a host or a person with a token holds is outside of these bounds: strangers cannot keep them out. Each token has a
bound of its own, so that a host that was taken over cannot either.
"""

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

import structlog

from controller.clock import Clock
from controller.server.bounds import ConnectionBounds
from controller.throttle import Throttle
from overlayd.wire.credentials import TokenId

_log = structlog.get_logger()


class Visitor:
    """One connection. `leave` ends its place here; `drop` is called to end the connection itself."""

    def __init__(self, visitors: "Visitors", peer: str, drop: Callable[[], None]) -> None:
        self.peer = peer
        self.drop = drop
        self.token: TokenId | None = None
        self._visitors = visitors

    def recognise(self, token: TokenId | None) -> None:
        """Take the connection out of the bounds for strangers: it has shown a valid token, or needs none (None)."""
        self._visitors.recognise(self, token)

    def leave(self) -> None:
        """Give up the connection's place; it is over."""
        self._visitors.forget(self)


class Visitors:
    """The connections that have not shown a token yet, and those of each token; the oldest first."""

    def __init__(self, clock: Clock, bounds: ConnectionBounds) -> None:
        self._clock = clock
        self._bounds = bounds
        self._strangers: dict[Visitor, None] = {}
        self._peers: Counter[str] = Counter()
        self._known: dict[TokenId, dict[Visitor, None]] = {}
        self._refused = Throttle()
        self._crowded = Throttle()

    def enter(self, address: str, drop: Callable[[], None]) -> Visitor | None:
        """Return a place for a new connection from an address, None when its address has too many.

        When all strangers together have too many, the oldest one is dropped: it had the most time to show a token.
        """
        peer = _network_of(address)
        if self._peers[peer] >= self._bounds.peer:
            self._note("one address has too many connections without a token", address)
            return None
        if len(self._strangers) >= self._bounds.strangers:
            self._note("too many connections without a token", address)
            self.drop_oldest()
        visitor = Visitor(self, peer, drop)
        self._strangers[visitor] = None
        self._peers[peer] += 1
        return visitor

    def drop_oldest(self) -> None:
        """End the oldest connection without a token, if there is one."""
        oldest = next(iter(self._strangers), None)
        if oldest is not None:
            self.forget(oldest)
            oldest.drop()

    def recognise(self, visitor: Visitor, token: TokenId | None) -> None:
        """Count a connection to its token instead; when that has too many, its oldest one is dropped."""
        if token is not None and visitor.token == token:
            return
        self.forget(visitor)
        if token is None:
            return
        others = self._known.setdefault(token, {})
        if len(others) >= self._bounds.token:
            oldest = next(iter(others))
            del others[oldest]
            oldest.token = None
            oldest.drop()
            if count := self._crowded.count(self._clock.now()):
                _log.warning("connections closed", count=count, token=token, reason="a token has too many connections")
        visitor.token = token
        others[visitor] = None

    def forget(self, visitor: Visitor) -> None:
        """Take a connection out of the count; nothing happens when it is out."""
        if visitor.token is not None:
            others = self._known[visitor.token]
            del others[visitor]
            if not others:
                del self._known[visitor.token]
            visitor.token = None
        if visitor in self._strangers:
            del self._strangers[visitor]
            self._peers[visitor.peer] -= 1
            if not self._peers[visitor.peer]:
                del self._peers[visitor.peer]

    def _note(self, reason: str, address: str) -> None:
        if count := self._refused.count(self._clock.now()):
            _log.warning("connections refused", count=count, last=address, reason=reason)


def _network_of(address: str) -> str:
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return f"{IPv6Address(int(found) >> 64 << 64)}/64"
    return str(found)
