"""The clock as an argument, so that tests control time."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock for waiting, and the time of day."""

    def now(self) -> float:
        """Return seconds since some fixed moment."""

    def wall(self) -> float:
        """Return the time of day in seconds since 1970 (UTC), which may jump."""

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
