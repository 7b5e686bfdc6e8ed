"""Sets of endpoints that come in parts: whole or not at all, and in bounds of time and memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network

import pytest

from controller.services.endpoint_sets import COUNT_MAX, IDLE_MAX, SET_MAX, TOTAL_MAX, EndpointSets
from overlayd.model.block import Block
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import InvalidValue, NotFound, Unavailable
from overlayd.model.ids import HostId
from tests.support.controllers.overlays import BLUE, H1, H2, make_endpoint
from tests.support.controllers.virtual_clock import VirtualClock

pytestmark = pytest.mark.anyio

BLOCK = Block(BLUE, IPv4Network("10.32.0.0/24"), H1)
MEBIBYTE = 1024 * 1024


@asynccontextmanager
async def sets() -> AsyncIterator[tuple[EndpointSets, VirtualClock]]:
    clock = VirtualClock()
    kept = EndpointSets(clock)
    running = asyncio.create_task(kept.run())
    try:
        yield kept, clock
    finally:
        running.cancel()
        await asyncio.wait([running])


def some(*offsets: int) -> list[Endpoint]:
    return [make_endpoint(BLOCK, offset) for offset in offsets]


async def test_parts_in_any_order_sent_twice_too_are_one_set() -> None:
    async with sets() as (kept, _):
        name = kept.begin(H1, 4)
        kept.add(H1, name, 1, some(4, 5), 100)
        kept.add(H1, name, 0, some(2, 3), 100)
        kept.add(H1, name, 1, some(4, 5), 100)
        assert kept.whole(H1, name) == some(2, 3, 4, 5)
        kept.drop(H1, name)
        assert kept.size == 0
        with pytest.raises(NotFound):
            kept.whole(H1, name)


async def test_a_set_that_lacks_a_part_is_not_whole() -> None:
    async with sets() as (kept, _):
        name = kept.begin(H1, 3)
        kept.add(H1, name, 0, some(2, 3), 100)
        with pytest.raises(InvalidValue, match="2 of its 3"):
            kept.whole(H1, name)
        with pytest.raises(InvalidValue, match="begun for 3"):
            kept.add(H1, name, 1, some(4, 5), 100)


async def test_a_host_has_one_set_and_none_of_another_host() -> None:
    async with sets() as (kept, _):
        former, latter = kept.begin(H1, 1), kept.begin(H1, 1)
        with pytest.raises(NotFound):
            kept.add(H1, former, 0, some(2), 100)
        with pytest.raises(NotFound):
            kept.add(H2, latter, 0, some(2), 100)
        kept.add(H1, latter, 0, some(2), 100)


async def test_a_set_that_never_ends_is_dropped() -> None:
    async with sets() as (kept, clock):
        name = kept.begin(H1, 3)
        kept.add(H1, name, 0, some(2), 100)
        await clock.advance(IDLE_MAX - 1)
        kept.add(H1, name, 1, some(3), 100)
        await clock.advance(IDLE_MAX - 1)
        assert kept.size == 200
        await clock.advance(10)
        assert kept.size == 0
        with pytest.raises(NotFound, match="begin another one"):
            kept.add(H1, name, 2, some(4), 100)


def fill(kept: EndpointSets, host: HostId, size: int) -> None:
    """Send parts of a mebibyte each until there are so many bytes."""
    name = kept.begin(host, 1)
    for part in range(size // MEBIBYTE):
        kept.add(host, name, part, [], MEBIBYTE)


async def test_a_set_that_is_too_large_is_refused_and_dropped() -> None:
    async with sets() as (kept, _):
        with pytest.raises(InvalidValue, match="bytes"):
            fill(kept, H1, SET_MAX + MEBIBYTE)
        assert kept.size == 0
        with pytest.raises(InvalidValue, match="at most"):
            kept.begin(H1, COUNT_MAX + 1)


async def test_all_sets_together_take_bounded_memory() -> None:
    async with sets() as (kept, _):
        first, *_, last = hosts = [HostId(f"h{number}") for number in range(TOTAL_MAX * 2 // SET_MAX + 1)]
        for host in hosts[:-1]:
            fill(kept, host, SET_MAX // 2)
        full = kept.size
        with pytest.raises(Unavailable):
            fill(kept, last, SET_MAX // 2)
        assert kept.size <= full <= TOTAL_MAX
        fill(kept, first, MEBIBYTE)
