"""Which keys have work under way."""

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class UnderWay(Generic[K]):
    """Counts the work under way for each key, and forgets a key when the last of its work has ended."""

    def __init__(self) -> None:
        self._counts: Counter[K] = Counter()

    @contextmanager
    def counted(self, key: K) -> Iterator[None]:
        """Count one piece of work for a key until the end of the block."""
        self._counts[key] += 1
        try:
            yield
        finally:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]

    def __contains__(self, key: object) -> bool:
        return key in self._counts

    def __iter__(self) -> Iterator[K]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)
