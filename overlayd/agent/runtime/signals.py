"""Waking the tasks that wait for a change."""

import asyncio


class Changes:
    """Counts changes, its own and those of its sources. None is missed: a waiter passes the count that it has seen."""

    def __init__(self, *sources: "Changes") -> None:
        self.count = 0
        self._next = asyncio.Event()
        self._followers: list[Changes] = []
        for source in sources:
            source._followers.append(self)  # noqa: SLF001 - of its own class

    def set(self) -> None:
        """Count a change and wake all waiting tasks."""
        self.count += 1
        self._next.set()
        self._next = asyncio.Event()
        for follower in self._followers:
            follower.set()

    async def wait(self, seen: int) -> int:
        """Return the count as soon as it differs from `seen`."""
        while self.count == seen:
            await self._next.wait()
        return self.count
