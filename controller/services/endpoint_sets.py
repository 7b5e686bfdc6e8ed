"""Sets of endpoints that hosts send in parts: kept until they are whole, for a while, and within bounds.

A set is at the controller that it was begun at, in memory alone. Parts change nothing: when a set is whole it is
published as one (`Endpoints.replace`). One that is lost, as its controller stopped or its host was slow, is sent again.
"""

import secrets
from dataclasses import dataclass, field

from controller.clock import Clock
from overlayd.model import ids
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import InvalidValue, NotFound, Unavailable
from overlayd.model.ids import HostId

COUNT_MAX = 50_000
"""Endpoints in one set."""

SET_MAX = 48 * 1024 * 1024
"""Bytes of the requests that brought one set."""

TOTAL_MAX = 128 * 1024 * 1024
"""Bytes of the requests that brought all sets of this controller: as much memory they take, some times over."""

IDLE_MAX = 30.0
"""Seconds that a set may wait for its next part."""

_INTERVAL = 5.0
"""Seconds between looks for sets that wait no longer."""


@dataclass(slots=True)
class _Set:
    name: str
    count: int
    touched: float
    parts: dict[int, tuple[int, list[Endpoint]]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The bytes of the requests that brought it."""
        return sum(size for size, _ in self.parts.values())


class EndpointSets:
    """The sets that hosts are sending to this controller, one for each host at most."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sets: dict[HostId, _Set] = {}

    @property
    def size(self) -> int:
        """The bytes of the requests that brought what is kept."""
        return sum(each.size for each in self._sets.values())

    def begin(self, host: HostId, count: int) -> str:
        """Begin a set of `count` endpoints, and drop the one that the host had begun; return its name.

        Raises `InvalidValue` when these are more than a set may have.
        """
        if count > COUNT_MAX:
            raise InvalidValue(f"a set has at most {COUNT_MAX} endpoints, not {count}", field="count")
        begun = self._sets[host] = _Set(secrets.token_hex(8), count, self._clock.now())
        return begun.name

    def add(self, host: HostId, name: str, part: int, endpoints: list[Endpoint], size: int) -> None:
        """Keep a part of a set, in place of what came under its number before; `size` is that of its request in bytes.

        Raises `NotFound` when there is no such set (any more), `InvalidValue` when it has more endpoints than it was
        begun for or is too large, and `Unavailable` when this controller has no memory left for it.
        """
        kept = self._find(host, name)
        kept.touched = self._clock.now()
        kept.parts[part] = (size, endpoints)
        if kept.size > SET_MAX:
            del self._sets[host]
            raise InvalidValue(f"a set has at most {SET_MAX} bytes", field="endpoints")
        if self.size > TOTAL_MAX:
            # Without this one the others can become whole.
            del self._sets[host]
            raise Unavailable("this controller takes too many sets at once; send it again later")
        if (found := sum(len(each) for _, each in kept.parts.values())) > kept.count:
            del self._sets[host]
            raise InvalidValue(f"the set was begun for {kept.count} endpoints, not {found}", field="endpoints")

    def whole(self, host: HostId, name: str) -> list[Endpoint]:
        """Return all endpoints of a set by its parts; raise `NotFound`, or `InvalidValue` when some are missing."""
        kept = self._find(host, name)
        endpoints = [endpoint for _, (_, part) in sorted(kept.parts.items()) for endpoint in part]
        if len(endpoints) != kept.count:
            raise InvalidValue(f"the set has {len(endpoints)} of its {kept.count} endpoints so far", field="set")
        return endpoints

    def drop(self, host: HostId, name: str) -> None:
        """Forget a set that is published."""
        kept = self._sets.get(host)
        if kept and kept.name == name:
            del self._sets[host]

    async def run(self) -> None:
        """Drop the sets that wait no longer, until cancelled."""
        while True:
            await self._clock.sleep(_INTERVAL)
            self._drop_idle()

    def _drop_idle(self) -> None:
        now = self._clock.now()
        self._sets = {host: kept for host, kept in self._sets.items() if now - kept.touched <= IDLE_MAX}

    def _find(self, host: HostId, name: str) -> _Set:
        self._drop_idle()
        kept = self._sets.get(host)
        if kept is None or kept.name != name:
            raise NotFound(f"host {host} has no set {ids.quoted(name)} here; begin another one", field="set")
        return kept
