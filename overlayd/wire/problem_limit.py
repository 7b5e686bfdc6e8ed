"""Bounds the number of problems in a host's report."""

from collections.abc import Callable, Hashable, Iterable
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

PROBLEMS_MAX = 100
"""The largest number of problems in a report."""


def foremost(problems: Iterable[T], network: Callable[[T], Hashable]) -> list[T]:
    """Return at most `PROBLEMS_MAX` of these problems, first of all one of each network, in their order."""
    everything = list(problems)
    firsts = {network(problem): index for index, problem in reversed(list(enumerate(everything)))}
    later = sorted(set(range(len(everything))) - set(firsts.values()))
    kept = islice([*sorted(firsts.values()), *later], PROBLEMS_MAX)
    return [everything[index] for index in sorted(kept)]
