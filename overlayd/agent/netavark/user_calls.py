"""System calls that a user can hold up for as long as the user likes, away from the event loop.

To close a descriptor may take for ever: that of a socket that lingers (socket(7), SO_LINGER), or of a file of a
filesystem that the user serves (fuse(4)). The kernel also closes those that came with a message that is dropped, so
reading from a user's socket, and closing it, are such calls as well.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from overlayd.agent.runtime.signals import Changes

R = TypeVar("R")

CALLS_MAX = 16
"""Calls of one user at the same time. Most are over within a millisecond; those that hang keep a thread."""

CALLS_OF_ALL_MAX = 256


class UserCalls:
    """Executes calls, each in a thread of its own, for which no exit of the process waits."""

    def __init__(self) -> None:
        self._under_way: Counter[int] = Counter()
        self._ended = Changes()

    async def do(self, uid: int, call: Callable[[], R], discard: Callable[[R], None]) -> R:
        """Return what a call returns, or raise what it raises; wait first while too many are under way.

        When nothing waits for it any more, it goes on, and `discard` is called with its result.
        """
        while self._under_way[uid] >= CALLS_MAX or self._under_way.total() >= CALLS_OF_ALL_MAX:
            await self._ended.wait(self._ended.count)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[R] = loop.create_future()

        def settle(failure: BaseException | None, results: tuple[R, ...]) -> None:
            self._over(uid)
            if done.cancelled():
                for result in results:
                    discard(result)
            elif failure:
                done.set_exception(failure)
            else:
                done.set_result(results[0])

        def run() -> None:
            failure: BaseException | None = None
            results: tuple[R, ...] = ()
            try:
                results = (call(),)
            except BaseException as error:  # noqa: BLE001 - it is raised where the call is waited for
                failure = error
            with suppress(RuntimeError):  # the loop is closed: the process ends
                loop.call_soon_threadsafe(settle, failure, results)

        self._under_way[uid] += 1
        try:
            threading.Thread(target=run, name=f"user {uid}", daemon=True).start()
        except RuntimeError as error:  # threading: the system has no room for one more thread
            self._over(uid)
            raise OSError(f"no thread for a call of user {uid}: {error}") from error
        return await done

    def _over(self, uid: int) -> None:
        self._under_way[uid] -= 1
        if not self._under_way[uid]:
            del self._under_way[uid]
        self._ended.set()
