"""A clock that stands still until a test lets time pass."""

import asyncio
import heapq
from itertools import count


class VirtualClock:
    """Wakes whoever sleeps, in order, when its time has come."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._somebody_sleeps = asyncio.Event()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return 1_700_000_000.0 + self._now

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
        self._somebody_sleeps.set()
        await woken

    def pass_time(self, seconds: float) -> None:
        """Let time pass for those who look at the clock, and wake nobody."""
        self._now += seconds

    async def advance(self, seconds: float) -> None:
        """Let time pass; it stands still while nobody sleeps, as then somebody has yet to do what is due."""
        end = self._now + seconds
        while True:
            await self._somebody_sleeps.wait()
            due, _, woken = self._sleepers[0]
            if due > end:
                break
            heapq.heappop(self._sleepers)
            if not self._sleepers:
                self._somebody_sleeps.clear()
            self._now = due
            if not woken.cancelled():
                woken.set_result(None)
        self._now = end

    def pass_without_waking(self, seconds: float) -> None:
        """Let time pass of which nobody who sleeps notices yet."""
        self._now += seconds
