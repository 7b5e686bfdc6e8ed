"""One attempt for many tasks: each gets its result, and an error of its own."""

import asyncio

import pytest

from overlayd.agent.runtime.shared_work import SharedAttempt
from overlayd.kernel.port import KernelError
from overlayd.model.errors import Exhausted, OverlayError

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("failure", [Exhausted("all blocks are taken", field="family"), KernelError(28, "no space")])
async def test_each_task_gets_an_error_of_its_own_that_says_the_same(failure: OverlayError) -> None:
    shared, begun, go = SharedAttempt(), 0, asyncio.Event()

    async def attempt() -> None:
        nonlocal begun
        begun += 1
        await go.wait()
        raise failure

    tasks = [asyncio.ensure_future(shared.make(attempt)) for _ in range(5)]
    await asyncio.sleep(0)
    go.set()
    raised = await asyncio.gather(*tasks, return_exceptions=True)
    assert begun == 1
    assert len({id(each) for each in raised}) == len(tasks)
    assert {(type(each), str(each), vars(each)["field"]) for each in raised if isinstance(each, OverlayError)} == {
        (type(failure), str(failure), failure.field)
    }
    assert len({_depth(each) for each in raised[1:]}) == 1, "no traceback grows with the number of tasks"


def _depth(error: BaseException | None) -> int:
    assert isinstance(error, OverlayError)
    depth, frame = 0, error.__traceback__
    while frame:
        depth, frame = depth + 1, frame.tb_next
    return depth


async def test_a_task_that_comes_after_the_end_makes_an_attempt_of_its_own() -> None:
    shared, outcomes = SharedAttempt(), [Exhausted("not yet")]

    async def attempt() -> None:
        if outcomes:
            raise outcomes.pop()

    with pytest.raises(Exhausted):
        await shared.make(attempt)
    await shared.make(attempt)


async def test_a_cancelled_attempt_is_made_by_the_next_task() -> None:
    shared, begun = SharedAttempt(), list[str]()

    async def attempt(name: str, *, forever: bool) -> None:
        begun.append(name)
        if forever:
            await asyncio.Event().wait()

    first = asyncio.ensure_future(shared.make(lambda: attempt("first", forever=True)))
    second = asyncio.ensure_future(shared.make(lambda: attempt("second", forever=False)))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert begun == ["first", "second"]
