"""A run that many need at once is made once or twice, and begins after each of them asked."""

import asyncio

import pytest

from overlayd.agent.runtime.shared_work import SharedRun

pytestmark = pytest.mark.anyio


class Runs:
    """Runs that end when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()
        self.fails = False

    async def __call__(self) -> None:
        self.begun += 1
        await self.may_end.wait()
        if self.fails:
            self.fails = False
            raise LookupError


async def test_many_need_two_runs_at_most() -> None:
    shared, runs = SharedRun(), Runs()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(100):
            tasks.create_task(shared.after_now(runs))
        await asyncio.sleep(0)
        runs.may_end.set()
    assert runs.begun == 2, "all but the first asked when its run had begun"


async def test_none_is_made_for_one_whose_need_ends_while_it_waits() -> None:
    shared, runs = SharedRun(), Runs()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(100):
            tasks.create_task(shared.unless(runs.may_end.is_set, runs))
        await asyncio.sleep(0)
        runs.may_end.set()
    assert runs.begun == 1


async def test_a_run_that_fails_is_its_own_callers_and_the_next_one_runs_again() -> None:
    shared, runs = SharedRun(), Runs()
    runs.fails = True
    waiting = [asyncio.create_task(shared.after_now(runs)) for _ in range(3)]
    await asyncio.sleep(0)
    runs.may_end.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in outcomes] == [LookupError, type(None), type(None)]


async def test_a_run_whose_caller_is_cancelled_is_made_by_the_next_one() -> None:
    shared, runs = SharedRun(), Runs()
    first, second = (asyncio.create_task(shared.after_now(runs)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    runs.may_end.set()
    await second
    assert (first.cancelled(), runs.begun) == (True, 2)
