"""Many readers are woken a few at a time, and requests have their turn in between."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from controller.clock import SystemClock
from controller.streams.turns import CALM, Turns
from controller.streams.wake_queue import AT_ONCE, WakeQueue, slices

pytestmark = pytest.mark.anyio


class Sleeper:
    """A reader that notes when it was woken."""

    def __init__(self, woken: list["Sleeper"]) -> None:
        self._woken = woken

    def wake(self) -> None:
        self._woken.append(self)


async def let_pass(number: int) -> None:
    """Let so many turns of the event loop pass."""
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.fixture
async def queue() -> AsyncIterator[WakeQueue]:
    turns = Turns(SystemClock())
    running = asyncio.create_task(turns.run())
    yield WakeQueue(turns)
    running.cancel()
    await asyncio.wait([running])


async def test_few_readers_are_woken_at_once(queue: WakeQueue) -> None:
    woken: list[Sleeper] = []
    readers = [Sleeper(woken) for _ in range(AT_ONCE)]
    queue.add(readers)
    assert woken == readers


async def test_each_turn_of_the_loop_wakes_a_few_of_many(queue: WakeQueue) -> None:
    woken: list[Sleeper] = []
    readers = [Sleeper(woken) for _ in range(5 * CALM * AT_ONCE + 1)]
    queue.add(readers)
    seen = [len(woken)]
    while len(woken) < len(readers):
        await asyncio.sleep(0)
        seen.append(len(woken))
    assert max(after - before for before, after in pairwise(seen)) == CALM * AT_ONCE
    assert woken == readers


async def test_a_reader_that_waits_already_is_woken_once(queue: WakeQueue) -> None:
    woken: list[Sleeper] = []
    readers = [Sleeper(woken) for _ in range(3 * AT_ONCE)]
    queue.add(readers)
    queue.add(readers)
    await let_pass(10)
    assert woken == readers


async def test_those_who_come_while_others_wait_are_woken_too(queue: WakeQueue) -> None:
    woken: list[Sleeper] = []
    first, second = ([Sleeper(woken) for _ in range(2 * AT_ONCE)] for _ in range(2))
    queue.add(first)
    await asyncio.sleep(0)
    queue.add(second)
    await let_pass(10)
    assert woken == [*first, *second]


def test_slices_hold_every_item_once() -> None:
    assert [len(part) for part in slices(range(17), 8)] == [8, 8, 1]
    assert [each for part in slices(range(21), 4) for each in part] == [*range(21)]
    assert [*slices([], 8)] == []
