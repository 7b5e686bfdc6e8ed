"""Waking many readers without holding up requests.

A reader that is woken encodes, encrypts and sends.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar

from controller.streams.turns import CanWait, Turns

T = TypeVar("T")

AT_ONCE = 8
"""How many readers are woken in one turn of the event loop: a millisecond of work."""


class Reader(Protocol):
    """What has something to tell when it is woken."""

    def wake(self) -> None:
        """Let the reader send the new changes."""


class WakeQueue:
    """Wakes readers in the order in which they came, a few in each turn of the event loop."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._waiting: dict[Reader, None] = {}

    def add(self, readers: Collection[Reader]) -> None:
        """Wake these readers: a few at once, many in groups one after another."""
        if len(readers) <= AT_ONCE:
            for reader in readers:
                reader.wake()
            return
        if not self._waiting:
            self._turns.add(CanWait.LINES, self._wake_some)
        self._waiting.update(dict.fromkeys(readers))

    def _wake_some(self) -> None:
        for reader in [*islice(self._waiting, AT_ONCE)]:
            del self._waiting[reader]
            reader.wake()
        if self._waiting:
            self._turns.add(CanWait.LINES, self._wake_some)


def slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield all items, `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))
