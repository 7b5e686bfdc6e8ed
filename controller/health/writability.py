"""Whether the store takes writes. One that is full, or has become read-only, is still read and followed."""

import structlog

from controller.clock import Clock
from controller.store.port import Store, StoreUnavailable
from overlayd.model.errors import Unavailable

_INTERVAL = 10.0
"""Seconds between two looks while all is well."""

_INTERVAL_REFUSED = 2.0
"""Seconds between two looks while the store takes no writes."""

_log = structlog.get_logger()


class Writability:
    """The result of the last check of the store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._refusal: StoreUnavailable | None = None

    @property
    def is_given(self) -> bool:
        """Whether the store took a write at the last check."""
        return self._refusal is None

    def check(self) -> None:
        """Raise `Unavailable` when the store took no write at the last look."""
        if self._refusal is not None:
            raise Unavailable(self._refusal.detail)

    async def run(self) -> None:
        """Check periodically, and log changes of the result, until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(_INTERVAL if self.is_given else _INTERVAL_REFUSED)

    async def look(self) -> None:
        """Make a write that changes nothing."""
        was_given = self.is_given
        try:
            await self._store.check_writable()
        except StoreUnavailable as refusal:
            self._refusal = refusal
            if was_given:
                _log.error(
                    "the store takes no writes: networks go on as they are, and nothing can be changed",
                    reason=refusal.detail,
                )
        else:
            self._refusal = None
            if not was_given:
                _log.info("the store takes writes again")
