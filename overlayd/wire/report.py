"""What of a host's problems is told when it has too many of them."""

from collections.abc import Callable, Hashable, Iterable
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

PROBLEMS_MAX = 100
"""How many problems of a host are kept."""


def foremost(problems: Iterable[T], network: Callable[[T], Hashable]) -> list[T]:
    """Return the problems that are kept of these: one of each network at least, as far as there is room."""
    everything = list(problems)
    firsts = {network(problem): index for index, problem in reversed(list(enumerate(everything)))}
    later = sorted(set(range(len(everything))) - set(firsts.values()))
    kept = islice([*sorted(firsts.values()), *later], PROBLEMS_MAX)
    return [everything[index] for index in sorted(kept)]
