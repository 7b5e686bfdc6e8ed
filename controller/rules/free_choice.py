"""The choice of one of many free values (a number, a block, an address) for a draft."""

from collections.abc import Iterable
from itertools import islice
from random import Random
from typing import TypeVar

T = TypeVar("T")

_WIDER = 8
"""How much wider each further attempt looks."""

_WIDEST = 512


class FreeChoice:
    """The choices of one draft: its first attempt takes the lowest free value, each later one a random low value.

    Each attempt chooses among more values. Otherwise controllers that saw the same state would compete for the same
    value again and again.
    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._width = 0

    def attempt(self) -> None:
        """Begin an attempt."""
        self._width = min(max(1, self._width * _WIDER), _WIDEST)

    def among(self, free: Iterable[T]) -> T | None:
        """Return one of the first few values in `free`, at random; None when there is none."""
        few = list(islice(free, self._width))
        return self._chance.choice(few) if few else None
