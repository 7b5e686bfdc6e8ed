"""Jobs that wait for the kernel lock at the same time are done by one call, and each has a result of its own."""

import asyncio
import errno
import gc
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

from overlayd.agent.runtime.kernel_lock import TOGETHER_MAX, KernelTurn, Together
from overlayd.kernel.port import KernelError
from overlayd.model.errors import AlreadyExists
from tests.support.kernel.fake_kernel import FakeKernel


class Work:
    """Doubles numbers, when it is let; remembers which it did together."""

    def __init__(self) -> None:
        self.turn = KernelTurn(FakeKernel())
        self.calls: list[list[int]] = []
        self.results: dict[int, int] = {}
        self.may_end = threading.Event()
        self.may_end.set()
        self.failure: KernelError | None = None
        self._together = Together(self.turn, self.turn.taken, self._done)

    def _done(self, jobs: Sequence[int]) -> list[int]:
        self.calls.append(list(jobs))
        self.may_end.wait(60)
        if self.failure:
            raise self.failure
        return [2 * job for job in jobs]

    async def do(self, job: int) -> None:
        def begin() -> int:
            assert not self.turn.is_free_within(-1), "the lock is held"
            if job < 0:
                raise AlreadyExists(f"{job} is taken")
            return job

        def end(result: int) -> None:
            assert not self.turn.is_free_within(-1), "the lock is still held"
            if result > 1000:
                raise KernelError(errno.EBUSY, f"{result} is refused")
            self.results[job] = result

        await self._together.do(begin, end)

    async def begun(self, count: int) -> None:
        while len(self.calls) < count:  # noqa: ASYNC110 - another thread makes the calls
            await asyncio.sleep(0)


async def test_those_that_wait_together_are_done_by_one_call() -> None:
    work = Work()
    async with AsyncExitStack() as waits:
        await waits.enter_async_context(work.turn.taken())
        tasks = [asyncio.create_task(work.do(job)) for job in range(20)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert work.calls == [list(range(20))]
    assert work.results == {job: 2 * job for job in range(20)}
    work.turn.close()


async def test_those_that_come_later_wait_for_the_next_call() -> None:
    work = Work()
    work.may_end.clear()
    first = asyncio.create_task(work.do(1))
    await work.begun(1)
    others = [asyncio.create_task(work.do(job)) for job in (2, 3)]
    await asyncio.sleep(0)
    work.may_end.set()
    await asyncio.gather(first, *others)
    assert work.calls == [[1], [2, 3]]
    work.turn.close()


async def test_one_that_cannot_begin_or_is_refused_fails_alone() -> None:
    work = Work()
    results = await asyncio.gather(*(work.do(job) for job in (1, -1, 501, 2)), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), AlreadyExists, KernelError, type(None)]
    assert work.calls == [[1, 501, 2]]
    assert work.results == {1: 2, 2: 4}
    work.turn.close()


async def test_each_has_an_error_of_its_own_when_the_call_fails() -> None:
    work = Work()
    work.failure = KernelError(errno.EIO, "out of order")
    one, other = await asyncio.gather(work.do(1), work.do(2), return_exceptions=True)
    assert isinstance(one, KernelError)
    assert isinstance(other, KernelError)
    assert one is not other
    assert (one.errno, str(one)) == (other.errno, str(other)) == (errno.EIO, "out of order")
    work.failure = None
    await work.do(3)
    assert work.results == {3: 6}
    work.turn.close()


async def test_one_that_gives_up_before_it_is_begun_is_not_done() -> None:
    work = Work()
    async with work.turn.taken():
        given_up, kept = asyncio.create_task(work.do(1)), asyncio.create_task(work.do(2))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
    await kept
    assert given_up.cancelled()
    assert work.calls == [[2]]
    work.turn.close()


async def test_one_that_gives_up_later_ends_when_it_is_done() -> None:
    work = Work()
    work.may_end.clear()
    task = asyncio.create_task(work.do(1))
    await work.begun(1)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.results == {1: 2}
    work.turn.close()


async def test_a_crowd_is_done_in_several_turns_and_others_have_the_lock_in_between() -> None:
    work, calls_before = Work(), list[int]()
    jobs = range(2 * TOGETHER_MAX + 1)

    async def other() -> None:
        async with work.turn.taken_to_remove():
            calls_before.append(len(work.calls))

    async with asyncio.TaskGroup() as tasks, work.turn.taken():
        for job in jobs:
            tasks.create_task(work.do(job))
        for _ in range(2):
            tasks.create_task(other())
        await asyncio.sleep(0)
    assert [len(call) for call in work.calls] == [TOGETHER_MAX, TOGETHER_MAX, 1]
    assert [job for call in work.calls for job in call] == list(jobs)
    assert max(calls_before) < len(work.calls)
    work.turn.close()


async def test_the_error_of_one_that_gave_up_is_not_logged_as_one_that_nobody_saw() -> None:
    unseen: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    work = Work()
    work.may_end.clear()
    work.failure = KernelError(errno.EIO, "out of order")
    task = asyncio.create_task(work.do(1))
    await work.begun(1)
    task.cancel()
    await asyncio.sleep(0)
    work.may_end.set()
    await asyncio.wait([task])
    assert task.cancelled()
    del task
    work.failure = None  # its traceback would keep what asyncio looks at as it goes
    gc.collect()
    assert unseen == []
    work.turn.close()
