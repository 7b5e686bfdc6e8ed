"""The kernel lock: one writer of the kernel, off the event loop; and jobs that get the lock together."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, ParamSpec, TypeVar

from overlayd.agent.runtime.shared_work import again
from overlayd.agent.runtime.under_way import ended
from overlayd.kernel.port import Kernel
from overlayd.model.errors import OverlayError
from overlayd.service.ready_threads import ready_threads

P = ParamSpec("P")
T = TypeVar("T")
J = TypeVar("J")
R = TypeVar("R")

Turn = Callable[[], AbstractAsyncContextManager[None]]
"""One of the queues in which to wait for the turn: `taken` or `taken_to_remove`."""


class KernelTurn:
    """One thread that makes every call to the kernel, and a lock held from observing to applying.

    Without the lock an attachment could come between the two and be taken for a leftover.
    """

    def __init__(self, kernel: Kernel) -> None:
        """Start the thread; raise `Unavailable` when the system has no room for it."""
        self.kernel = kernel
        self._is_taken = False
        self._makers: deque[asyncio.Future[None]] = deque()
        self._removers: deque[asyncio.Future[None]] = deque()
        self._queues = deque((self._makers, self._removers))
        self._since = math.inf
        self._thread = ready_threads(1, "kernel")

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


_AT_ONCE = 8
"""Jobs that are begun, or ended, before the loop does other work."""

TOGETHER_MAX = 64
"""Jobs that are done in one turn: the other queue of the lock waits for at most this many."""


@dataclass(eq=False, slots=True)
class _Waiting(Generic[J, R]):
    begin: Callable[[], J]
    end: Callable[[R], None]
    done: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    is_begun: bool = False


class Together(Generic[J, R]):
    """Jobs of one kind that wait for the kernel lock at the same time are done in one turn, by one call in its thread.

    `work` does them there, and returns a result for each. Those beyond `TOGETHER_MAX` wait for the next turn.
    """

    def __init__(self, kernel: KernelTurn, turn: Turn, work: Callable[[Sequence[J]], Sequence[R]]) -> None:
        self._kernel = kernel
        self._turn = turn
        self._work = work
        self._waiting: list[_Waiting[J, R]] = []
        self._leader: asyncio.Task[None] | None = None

    async def do(self, begin: Callable[[], J], end: Callable[[R], None]) -> None:
        """Have a job done; raise what `begin` or `end` raises. Both are called with the lock held, on the event loop.

        `begin` returns the job, and `end` takes its result. A cancellation of the caller comes after the end of what
        was begun.
        """
        one = _Waiting(begin, end)
        self._waiting.append(one)
        self._lead()
        try:
            await asyncio.shield(one.done)
        except asyncio.CancelledError:
            if one.is_begun:
                await ended(one.done)
            else:
                one.done.cancel()
            raise

    def _lead(self) -> None:
        """Start a task that waits for the lock for all queued jobs, unless one does already."""
        if self._leader is None and self._waiting:
            self._leader = asyncio.ensure_future(self._take_turn())

    async def _take_turn(self) -> None:
        taken: list[_Waiting[J, R]] = []
        try:
            async with self._turn():
                waiting, self._leader = [one for one in self._waiting if not one.done.done()], None
                taken, self._waiting = waiting[:TOGETHER_MAX], waiting[TOGETHER_MAX:]
                self._lead()
                await self._do(taken)
        except OverlayError as error:
            for one in taken:
                _fail(one, again(error))  # one of its own for each
        except BaseException as error:
            for one in taken:
                _fail(one, error)
            if not taken or not isinstance(error, Exception):
                raise  # otherwise the callers raise it

    async def _do(self, taken: Sequence[_Waiting[J, R]]) -> None:
        begun: list[tuple[_Waiting[J, R], J]] = []
        for number, one in enumerate(taken, 1):
            if not one.done.done():  # else its caller has given up
                one.is_begun = True
                try:
                    begun.append((one, one.begin()))
                except (OverlayError, OSError) as error:
                    one.done.set_exception(error)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        if not begun:
            return
        results = await self._kernel.call(self._work, [job for _, job in begun])
        for number, ((one, _), result) in enumerate(zip(begun, results, strict=True), 1):
            try:
                one.end(result)
            except (OverlayError, OSError) as error:
                one.done.set_exception(error)
            else:
                one.done.set_result(None)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)


def _fail(one: _Waiting[J, R], error: BaseException) -> None:
    if not one.done.done():
        one.done.set_exception(error)
