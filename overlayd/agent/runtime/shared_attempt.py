"""An attempt that many need at the same time, made once for all of them."""

import asyncio
from collections.abc import Awaitable, Callable

from overlayd.model.errors import OverlayError


class SharedAttempt:
    """One of those who need it makes the attempt; who comes meanwhile waits for its end, and shares how it ended.

    It may have begun before a sharer asked, so a sharer looks again at what it needs.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._ended = 0
        self._failure: OverlayError | None = None

    async def make(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Make the attempt or share one; raise what it raised. One that is cancelled is left to the next sharer."""
        seen = self._ended
        async with self._lock:
            if self._ended == seen:
                try:
                    await attempt()
                except OverlayError as error:
                    self._failure = error
                else:
                    self._failure = None
                self._ended += 1
            if self._failure:
                raise self._failure
