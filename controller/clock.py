"""Time as an argument, so that tests can let it pass."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """The time to wait by, which never jumps, and the time of day."""

    def now(self) -> float:
        """Return seconds since some fixed moment."""

    def wall(self) -> float:
        """Return seconds since 1970 (UTC), as people tell time: it may jump."""

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
