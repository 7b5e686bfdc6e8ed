"""The clock by which history and tokens expire. It never jumps, whatever the clocks of the controllers do.

The store keeps it. It advances at most a tenth faster than the monotonic clock of a running controller, and is never
ahead of the time of day. So nothing expires early if a controller's clock jumps a year forward. After a time in which
no controller ran it is late and catches up slowly; until then, things are kept a little longer than asked for.
"""

import structlog

from controller.clock import Clock
from controller.state import keys
from controller.store.port import Compare, PutKey, Store, Transaction
from overlayd.model.ids import Revision

_RATE = 1.1
"""How many seconds it advances at most in one second of a monotonic clock."""

_SKEW = 60.0
"""Seconds by which the clocks of controllers may differ."""

_JUMP = 86_400.0
"""Seconds between the time of day and the time of the store that are worth a line in the log."""

_log = structlog.get_logger()


class StoreTime:
    """The time of one store, as one controller keeps it."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._at = 0.0
        self._base: tuple[float, float] | None = None
        self._is_odd = False

    def stamp(self) -> float:
        """Return the time of day for what happens now, in seconds since 1970 (UTC): never before the store's time."""
        return max(self._clock.wall(), self._at)

    async def advance(self) -> float | None:
        """Return the time of the store now, in seconds since 1970 (UTC); raises `StoreUnavailable`.

        None: the time of day is before it, so that one of both is wrong, and nothing may be forgotten.
        """
        wall, now = self._clock.wall(), self._clock.now()
        found = await self._store.get(keys.TIME)
        known = keys.decode(found.value).number("at") if found else None
        start = float(known if known is not None else wall)
        base, since = self._base = self._base or (start, now)
        self._at = max(start, min(wall, base + _RATE * (now - since)))
        self._notice(wall)
        if wall < start - _SKEW:
            return None
        if known is None or int(self._at) > known:
            unchanged = Compare(keys.TIME, found.mod_revision if found else Revision(0))
            # After a conflict another controller has kept it.
            await self._store.commit(
                Transaction((unchanged,), (PutKey(keys.TIME, keys.encode({"at": int(self._at)})),))
            )
        return self._at

    def _notice(self, wall: float) -> None:
        is_odd = abs(wall - self._at) > _JUMP
        if is_odd and not self._is_odd:
            _log.warning(
                "this machine's clock has jumped, or no controller ran for long; nothing is forgotten before its time",
                days=round((wall - self._at) / 86_400, 1),
            )
        self._is_odd = is_odd
