"""What goes first while the event loop is busy: requests for which a container waits, before feeds and reports.

A change of one network concerns a hundred hosts and more, each of which gets a line and answers with a report. All of
that in one turn of the event loop would let a request wait for a tenth of a second.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto

from controller.clock import Clock

_PAUSE_MAX = 0.05
"""Seconds for which a request holds up what can wait, at most, after each piece of it."""


CALM = 4
"""How many pieces of a kind are done in one turn of the event loop while no request is under way that cannot wait."""


class CanWait(Enum):
    """Work that is done in small pieces, one kind as often as the other."""

    LINES = auto()
    """Lines of feeds, for a few hosts."""

    REPORT = auto()
    """The report of a host."""


class Turns:
    """Does a few pieces of the work that can wait in each turn of the event loop.

    While a request is under way that cannot wait, it does one piece only. Then it pauses for as long as the piece took,
    so that the request gets half of the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting = {kind: deque[Callable[[], None]]() for kind in CanWait}
        self._filled = asyncio.Event()
        self._urgent = 0
        self._is_calm = asyncio.Event()
        self._is_calm.set()

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Let what can wait go slower for the time inside."""
        self._urgent += 1
        self._is_calm.clear()
        try:
            yield
        finally:
            self._urgent -= 1
            if not self._urgent:
                self._is_calm.set()

    def add(self, kind: CanWait, piece: Callable[[], None]) -> None:
        """Call `piece` when it has its turn: after those of its kind that were added before."""
        self._waiting[kind].append(piece)
        self._filled.set()

    async def turn(self, kind: CanWait) -> None:
        """Return when the caller has its turn; what it does then, up to its next wait, is a piece."""
        come: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def let_go() -> None:
            if not come.done():  # else its caller has gone
                come.set_result(None)

        self.add(kind, let_go)
        await come

    async def run(self) -> None:
        """Do what waits, until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while any(self._waiting.values()):
                for waiting in self._waiting.values():
                    if waiting:
                        await self._do(waiting)

    async def _do(self, waiting: deque[Callable[[], None]]) -> None:
        begun = self._clock.now()
        for _ in range(1 if self._urgent else CALM):
            if waiting:
                waiting.popleft()()
        await asyncio.sleep(0)  # tasks that the piece wakes come first
        if self._urgent:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self._clock.now() - begun, _PAUSE_MAX)):
                    await self._is_calm.wait()
