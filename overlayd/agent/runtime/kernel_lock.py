"""The kernel lock: one writer of the kernel, off the event loop."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import ParamSpec, TypeVar

from overlayd.agent.runtime.under_way import ended
from overlayd.kernel.port import Kernel

P = ParamSpec("P")
T = TypeVar("T")

Turn = Callable[[], AbstractAsyncContextManager[None]]
"""One of the queues in which to wait for the turn: `taken` or `taken_to_remove`."""


class KernelTurn:
    """One thread that makes every call to the kernel, and a lock held from observing to applying.

    Without the lock an attachment could come between the two and be taken for a leftover.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._is_taken = False
        self._makers: deque[asyncio.Future[None]] = deque()
        self._removers: deque[asyncio.Future[None]] = deque()
        self._queues = deque((self._makers, self._removers))
        self._since = math.inf
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kernel")

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Take the lock and hold it until the end of the block; `call` is for the holder."""
        async with self._kept(self._makers):
            yield

    @asynccontextmanager
    async def taken_to_remove(self) -> AsyncIterator[None]:
        """Do as `taken`, in a second queue that is served alternately: a DEL never waits behind a queue of ADDs."""
        async with self._kept(self._removers):
            yield

    @asynccontextmanager
    async def _kept(self, queue: "deque[asyncio.Future[None]]") -> AsyncIterator[None]:
        await self._take(queue)
        self._since = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self._since = math.inf
            self._pass_on()

    async def _take(self, queue: "deque[asyncio.Future[None]]") -> None:
        if not self._is_taken:
            self._is_taken = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was passed on to this waiter at the same moment
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Pass the lock to the next waiter. It stays held in between, so that no later waiter comes first."""
        self._queues.rotate()
        for queue in self._queues:
            while queue:
                if not (turn := queue.popleft()).done():
                    turn.set_result(None)
                    return
        self._is_taken = False

    def is_free_within(self, patience: float) -> bool:
        """Return whether no task has held the lock for longer than this many seconds."""
        return asyncio.get_running_loop().time() - self._since <= patience

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function in the kernel's thread.

        It is awaited to its end even if the caller is cancelled: half a plan must never run beside the next holder.
        """
        waiter = asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *args, **kwargs))
        try:
            return await asyncio.shield(waiter)
        except asyncio.CancelledError:
            await ended(waiter)
            raise

    def close(self) -> None:
        """End the thread after its present call, and close the kernel."""
        self._thread.shutdown()
        self.kernel.close()
