"""Work that several tasks need at the same time, done once for all of them: an attempt, or a run that begins later."""

import asyncio
from collections.abc import Awaitable, Callable

from overlayd.model.errors import OverlayError


class SharedAttempt:
    """The first task that needs it makes the attempt; tasks that come before its end wait and share its result.

    The attempt may have begun before a task asked for it, so each task checks again whether it has what it needs.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._ended = 0
        self._failure: OverlayError | None = None

    async def make(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Make the attempt or share one; raise what it raised. A cancelled attempt is made by the next waiting task."""
        seen = self._ended
        async with self._lock:
            if self._ended == seen:
                await self._make(attempt)
            elif self._failure:
                # Each raise of one exception object would add to a traceback that all waiting tasks share.
                raise again(self._failure) from self._failure

    async def _make(self, attempt: Callable[[], Awaitable[None]]) -> None:
        self._failure = None
        try:
            await attempt()
        except OverlayError as error:
            self._failure = error
            self._ended += 1
            raise
        self._ended += 1


class SharedRun:
    """One caller runs for all that called before the run began: many concurrent callers need at most two runs."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._begun = self._ended = 0

    async def after_now(self, run: Callable[[], Awaitable[object]]) -> None:
        """Return when a run that began after this call has ended; raise what the caller's own run raises."""
        await self.unless(lambda: False, run)

    async def unless(self, is_needless: Callable[[], bool], run: Callable[[], Awaitable[object]]) -> None:
        """Do the same, but return as soon as no run is needed, perhaps because of one that began before."""
        asked = self._begun
        if is_needless():
            return
        async with self._lock:
            if self._ended > asked or is_needless():
                return
            self._begun = number = self._begun + 1
            await run()
            self._ended = number


def again(error: OverlayError) -> OverlayError:
    """Return an error that says the same and has no traceback yet."""
    fresh = type(error).__new__(type(error), *error.args)
    fresh.__dict__.update(error.__dict__)
    return fresh
