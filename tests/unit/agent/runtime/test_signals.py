"""Waking tasks that wait for a change: no task misses one, whenever it comes."""

import asyncio

import pytest

from overlayd.agent.runtime.signals import Changes

pytestmark = pytest.mark.anyio


async def test_a_change_before_the_waiting_is_not_missed() -> None:
    changes = Changes()
    changes.set()
    assert await changes.wait(0) == 1


async def test_a_change_wakes_everybody_who_waits() -> None:
    changes = Changes()
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(changes.wait(0)) for _ in range(3)]
        tasks.create_task(_set(changes, 1))
    assert [task.result() for task in waiting] == [1, 1, 1]


async def test_many_changes_wake_once() -> None:
    changes = Changes()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(changes.wait(0))
        tasks.create_task(_set(changes, 3))
    assert waiting.result() == 3


async def test_who_has_seen_everything_waits() -> None:
    changes = Changes()
    changes.set()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await changes.wait(1)


async def test_changes_of_a_source_count_for_who_follows_it() -> None:
    first, second = Changes(), Changes()
    both = Changes(first, second)
    of_both = Changes(both)
    first.set()
    second.set()
    both.set()
    assert (first.count, second.count, both.count, of_both.count) == (1, 1, 3, 3)


async def _set(changes: Changes, times: int) -> None:
    for _ in range(times):
        changes.set()
