"""The kernel lock, as the watchdog of the agent sees it."""

import asyncio

from overlayd.agent.runtime.kernel_lock import KernelTurn
from tests.support.kernel.fake_kernel import FakeKernel


async def test_a_turn_that_somebody_keeps_is_not_free() -> None:
    turn = KernelTurn(FakeKernel())
    assert turn.is_free_within(-1)
    async with turn.taken():
        assert turn.is_free_within(60)
        assert not turn.is_free_within(-1)
    assert turn.is_free_within(-1)
    turn.close()


async def test_what_removes_has_every_other_turn_and_each_queue_its_order() -> None:
    turn, order = KernelTurn(FakeKernel()), list[str]()

    async def make(name: str) -> None:
        async with turn.taken():
            order.append(name)

    async def remove(name: str) -> None:
        async with turn.taken_to_remove():
            order.append(name)

    async with asyncio.TaskGroup() as tasks, turn.taken():
        for number in range(4):
            tasks.create_task(make(f"make {number}"))
        for number in range(2):
            tasks.create_task(remove(f"remove {number}"))
        await asyncio.sleep(0)
    assert sorted(order[:4]) == ["make 0", "make 1", "remove 0", "remove 1"]
    assert order[4:] == ["make 2", "make 3"]
    turn.close()


async def test_a_waiter_that_is_cancelled_as_its_turn_comes_passes_it_on() -> None:
    turn, order = KernelTurn(FakeKernel()), list[str]()

    async def make(name: str) -> None:
        async with turn.taken():
            order.append(name)

    async with asyncio.TaskGroup() as tasks:
        async with turn.taken():
            first, _ = tasks.create_task(make("first")), tasks.create_task(make("second"))
            await asyncio.sleep(0)
        first.cancel()
    assert order == ["second"]
    async with turn.taken():
        pass
    turn.close()
