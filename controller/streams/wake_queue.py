"""Waking many readers without holding up requests.

A reader that is woken encodes, encrypts and sends. A thousand of them in one turn of the event loop would let a request
wait for a tenth of a second.
"""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar

T = TypeVar("T")

AT_ONCE = 64
"""How many readers are woken in one turn of the event loop: some milliseconds of work. Fewer would let a change wait
for the reports with which the first hosts answer it, each of which takes as long as the lines of several hosts."""


class Reader(Protocol):
    """What has something to tell when it is woken."""

    def wake(self) -> None:
        """Let the reader tell what is new."""


class WakeQueue:
    """Wakes readers in the order in which they came, a few in each turn of the event loop."""

    def __init__(self) -> None:
        self._waiting: dict[Reader, None] = {}
        self._filled = asyncio.Event()

    def add(self, readers: Collection[Reader]) -> None:
        """Wake these readers: a few at once, many in groups one after another."""
        if len(readers) <= AT_ONCE:
            for reader in readers:
                reader.wake()
            return
        self._waiting.update(dict.fromkeys(readers))
        self._filled.set()

    async def run(self) -> None:
        """Wake the readers that wait, until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._waiting:
                for reader in [*islice(self._waiting, AT_ONCE)]:
                    del self._waiting[reader]
                    reader.wake()
                await asyncio.sleep(0)


def slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield all items, so many at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))
