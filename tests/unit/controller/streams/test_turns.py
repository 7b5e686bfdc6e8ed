"""What can wait is done piece by piece, and while a request is under way that cannot, in half of the time."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from controller.streams.turns import CALM, CanWait, Turns
from tests.support.controllers.virtual_clock import VirtualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def turns(clock: VirtualClock) -> AsyncIterator[Turns]:
    made = Turns(clock)
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()
    await asyncio.wait([running])


async def let_pass(number: int) -> None:
    """Let so many turns of the event loop pass."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_each_turn_of_the_loop_does_a_few_pieces_of_one_kind(turns: Turns) -> None:
    done: list[str] = []
    for number in range(2 * CALM):
        turns.add(CanWait.REPORT, partial(done.append, f"report {number}"))
        turns.add(CanWait.LINES, partial(done.append, f"lines {number}"))
    seen = 0
    while len(done) < 4 * CALM:
        await asyncio.sleep(0)
        assert len(done) <= seen + CALM
        seen = len(done)
    lines, reports = ([f"{kind} {number}" for number in range(2 * CALM)] for kind in ("lines", "report"))
    assert done == [*lines[:CALM], *reports[:CALM], *lines[CALM:], *reports[CALM:]]


async def test_a_pause_as_long_as_the_piece_follows_while_a_request_is_under_way(
    turns: Turns, clock: VirtualClock
) -> None:
    done: list[int] = []

    def piece() -> None:
        clock.pass_time(0.03)
        done.append(len(done))

    with turns.urgent():
        for _ in range(2):
            turns.add(CanWait.REPORT, piece)
        await let_pass(20)
        assert done == [0]
    await let_pass(20)
    assert done == [0, 1]


async def test_what_can_wait_goes_on_though_requests_never_end(turns: Turns, clock: VirtualClock) -> None:
    all_done = asyncio.Event()
    with turns.urgent():
        for _ in range(5):
            turns.add(CanWait.REPORT, partial(clock.pass_time, 0.001))
        turns.add(CanWait.REPORT, all_done.set)
        async with asyncio.timeout(60):
            await all_done.wait()


async def test_who_has_gone_takes_no_turn_of_others(turns: Turns) -> None:
    gone = asyncio.create_task(turns.turn(CanWait.REPORT))
    stays = asyncio.create_task(turns.turn(CanWait.REPORT))
    await asyncio.sleep(0)
    gone.cancel()
    await stays
    assert gone.cancelled()
