"""Taking turns at the kernel: one writer, off the event loop."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from overlayd.kernel.port import Kernel

P = ParamSpec("P")
T = TypeVar("T")


class KernelTurn:
    """One thread that makes every call to the kernel, and a lock held from observing to applying.

    Without the lock an attachment could come between the two and be taken for a leftover.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._lock = asyncio.Lock()
        self._since = math.inf
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kernel")

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for the turn and keep it; `call` is for whoever has it."""
        async with self._lock:
            self._since = asyncio.get_running_loop().time()
            try:
                yield
            finally:
                self._since = math.inf

    def is_free_within(self, patience: float) -> bool:
        """Tell whether nobody has had the turn for more than this many seconds."""
        return asyncio.get_running_loop().time() - self._since <= patience

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function in the kernel's thread.

        It is awaited to its end also when the caller is cancelled: half a plan must never run behind the next turn.
        """
        future = self._thread.submit(function, *args, **kwargs)
        waiter = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(waiter)
        except asyncio.CancelledError:
            await asyncio.wait([waiter])
            raise

    def close(self) -> None:
        """End the thread after the call that it may be in, and close the kernel."""
        self._thread.shutdown()
        self.kernel.close()
