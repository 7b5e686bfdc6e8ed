"""Side by side or alone: who waits for whom."""

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import pytest

from overlayd.agent.exclusion import Exclusion

pytestmark = pytest.mark.anyio


class Work:
    """Somebody who enters, and leaves when told."""

    def __init__(self, entering: AbstractAsyncContextManager[None]) -> None:
        self.inside = asyncio.Event()
        self._leave = asyncio.Event()
        self._task = asyncio.create_task(self._run(entering))

    async def _run(self, entering: AbstractAsyncContextManager[None]) -> None:
        async with entering:
            self.inside.set()
            await self._leave.wait()

    async def leave(self) -> None:
        await self.inside.wait()
        self._leave.set()
        await self._task


async def settled() -> None:
    """Let everybody go as far as possible: nothing here waits for anything outside."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_any_number_share() -> None:
    exclusion = Exclusion()
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(exclusion.shared())


async def test_who_wants_to_be_alone_waits_for_those_inside_and_comes_before_the_next() -> None:
    exclusion = Exclusion()
    first, second = Work(exclusion.shared()), Work(exclusion.shared())
    await settled()
    alone = Work(exclusion.alone())
    await settled()
    late = Work(exclusion.shared())
    await first.leave()
    await settled()
    assert not alone.inside.is_set()
    await second.leave()
    await settled()
    assert alone.inside.is_set()
    assert not late.inside.is_set()
    await alone.leave()
    await late.leave()


async def test_a_failure_inside_lets_the_next_one_in() -> None:
    exclusion = Exclusion()
    for entering in (exclusion.shared, exclusion.alone):
        with pytest.raises(ZeroDivisionError):
            async with entering():
                raise ZeroDivisionError
    async with exclusion.alone():
        pass
