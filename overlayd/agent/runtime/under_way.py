"""Work under way: counted by key, and work that is finished even if its callers are cancelled."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


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


async def ended(work: "asyncio.Future[T]") -> asyncio.CancelledError | None:
    """Wait until the work has ended; return the last cancellation of the caller in that time, if any."""
    cancelled = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if not work.cancelled():
        work.exception()  # retrieved: asyncio logs exceptions that are never retrieved
    return cancelled


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of work that is never cancelled; raise a cancellation of the caller after its end."""
    task = asyncio.ensure_future(work)
    if cancelled := await ended(task):
        raise cancelled from task.exception()
    return task.result()
