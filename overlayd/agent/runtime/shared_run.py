"""A run that many need, each one that begins after it asked."""

import asyncio
from collections.abc import Awaitable, Callable


class SharedRun:
    """One of those who ask runs for all who asked before it began: many at once need two runs at most."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._begun = self._ended = 0

    async def after_now(self, run: Callable[[], Awaitable[object]]) -> None:
        """Return when a run is over that began after this call; raise what the caller's own run raises."""
        await self.unless(lambda: False, run)

    async def unless(self, is_needless: Callable[[], bool], run: Callable[[], Awaitable[object]]) -> None:
        """Do the same, but return as soon as no run is needed, as by what one did that began before."""
        asked = self._begun
        if is_needless():
            return
        async with self._lock:
            if self._ended > asked or is_needless():
                return
            self._begun = number = self._begun + 1
            await run()
            self._ended = number
