"""Work that goes on to its end when those who wait for it are cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def ended(work: "asyncio.Future[T]") -> asyncio.CancelledError | None:
    """Return when the work has ended, however it did and however often the caller was cancelled; the last of those."""
    cancelled = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of work that is never cancelled; a cancellation of the caller is raised when it has ended."""
    task = asyncio.ensure_future(work)
    if cancelled := await ended(task):
        raise cancelled from task.exception()
    return task.result()
