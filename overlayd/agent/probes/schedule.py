"""When each of many hosts is to be probed."""

from collections.abc import Collection, Mapping
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

AT_ONCE = float("-inf")


class Schedule(Generic[K, V]):
    """Keys with a value and a time each. The cost of `take` follows the number of keys that are due, not of all keys.

    A key that was taken is out of the schedule until `again` puts it back.
    """

    def __init__(self) -> None:
        self.values: Mapping[K, V] = {}
        self._queue: list[tuple[float, int, K]] = []
        self._entries: dict[K, int] = {}
        self._order = count()

    def keep(self, values: Mapping[K, V], changed: Collection[K]) -> None:
        """Forget all keys but these. What is new, or has another value than before, is due at once."""
        self.values = values
        for key in changed:
            if key in values:
                self._put(key, AT_ONCE)
            else:
                self._entries.pop(key, None)

    def take(self, now: float, most: int) -> list[K]:
        """Return up to `most` keys whose time has come, those that wait longest first."""
        taken: list[K] = []
        while self._queue and self._queue[0][0] <= now and len(taken) < most:
            _, entry, key = heappop(self._queue)
            if self._entries.get(key) == entry:  # else it has been scheduled again since, or was dropped
                del self._entries[key]
                taken.append(key)
        return taken

    def again(self, key: K, value: V, when: float) -> None:
        """Schedule a key again for a time, unless it was dropped, or has a new value and so is due at once."""
        if key in self.values and self.values[key] == value:
            self._put(key, when)

    def _put(self, key: K, when: float) -> None:
        entry = self._entries[key] = next(self._order)
        heappush(self._queue, (when, entry, key))
