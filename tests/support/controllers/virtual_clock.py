"""A clock that stands still until a test lets time pass."""

import asyncio
import heapq
from itertools import count


class VirtualClock:
    """Wakes its sleepers in the order of their times."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._has_sleepers = asyncio.Event()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return 1_700_000_000.0 + self._now

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
        self._has_sleepers.set()
        await woken

    def pass_time(self, seconds: float) -> None:
        """Let time pass for all who read the clock, and wake no sleeper."""
        self._now += seconds

    async def advance(self, seconds: float) -> None:
        """Let time pass. While there is no sleeper it stands still: a task still works on what is due."""
        end = self._now + seconds
        while True:
            await self._has_sleepers.wait()
            due, _, woken = self._sleepers[0]
            if due > end:
                break
            heapq.heappop(self._sleepers)
            if not self._sleepers:
                self._has_sleepers.clear()
            self._now = due
            if not woken.cancelled():
                woken.set_result(None)
        self._now = end

    def pass_without_waking(self, seconds: float) -> None:
        """Let time pass that no sleeper notices yet."""
        self._now += seconds
