import asyncio
from contextlib import AsyncExitStack
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.journal.actor import BY_CONTROLLER
from overlayd.model.address import contains
from overlayd.model.errors import Exhausted, InUse, InvalidValue, NotFound
from overlayd.model.ids import HostId, NetworkName
from overlayd.model.network import Topology
from tests.support.controllers.overlays import (
    BLUE,
    H1,
    H2,
    controller_on,
    controllers,
    make_endpoint,
    make_host,
    make_network,
    pool,
    store_at,
    stored,
    whole_cluster,
)

pytestmark = pytest.mark.anyio


async def test_blocks_are_the_lowest_free_ones(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        first = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        second = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [first.cidr])).result
        assert [str(block.cidr) for block in (first, second)] == ["10.32.0.0/26", "10.32.0.64/26"]


async def test_a_host_that_asks_again_gets_the_block_it_did_not_hear_of(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        first = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        second = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [first.cidr])).result
        before = await stored(store)
        assert (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [first.cidr])).result == second
        assert (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result == first
        assert await stored(store) == before


async def test_hosts_that_acquire_at_once_from_two_controllers_share_no_block(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, both):
        await make_network(both[0], of=pool("10.32.0.0/20", 26))
        for number in range(1, 65):
            await make_host(both[0], number)
        await both[1].mirror.reached(both[0].mirror.revision)
        wanted = [both[n % 2].blocks.acquire(BY_CONTROLLER, BLUE, HostId(f"h{n}"), []) for n in range(1, 65)]
        blocks = [written.result for written in await asyncio.gather(*wanted)]
        assert len({block.cidr for block in blocks}) == 64
        assert {block.key: block for block in blocks} == (await whole_cluster(store)).blocks
        with pytest.raises(Exhausted, match="all 64 blocks"):
            await both[0].blocks.acquire(BY_CONTROLLER, BLUE, H1, [block.cidr for block in blocks])


async def test_one_host_that_asks_many_times_at_once_gets_one_block(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, both):
        await make_network(both[0])
        await make_host(both[0], 1)
        await both[1].mirror.reached(both[0].mirror.revision)
        written = await asyncio.gather(*(both[n % 2].blocks.acquire(BY_CONTROLLER, BLUE, H1, []) for n in range(16)))
        assert len({each.result for each in written}) == 1
        assert len((await whole_cluster(store)).blocks) == 1


async def test_blocks_of_different_networks_may_be_the_same_addresses(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        red = NetworkName("red")
        for name in (BLUE, red):
            await make_network(overlay, name)
        blue_block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        red_block = (await overlay.blocks.acquire(BY_CONTROLLER, red, H1, [])).result
        assert blue_block.cidr == red_block.cidr


async def test_blocks_need_a_network_and_a_host(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        before = await stored(store)
        with pytest.raises(NotFound) as refused:
            await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        assert refused.value.field == "host"
        await make_host(overlay, 1)
        with pytest.raises(NotFound) as refused:
            await overlay.blocks.acquire(BY_CONTROLLER, NetworkName("red"), H1, [])
        assert refused.value.field == "network"
        assert {key for key in await stored(store) if "/blocks/" in key} == {key for key in before if "/blocks/" in key}


async def test_only_the_owner_releases_a_block(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        await make_host(overlay, 2)
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        with pytest.raises(InvalidValue, match="belongs to host h1"):
            await overlay.blocks.release(BY_CONTROLLER, BLUE, block.cidr, H2)
        assert overlay.blocks.select(BLUE, None) == [block]


async def test_a_block_with_endpoints_stays(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        first = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        second = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [first.cidr])).result
        endpoint = make_endpoint(first, 2)
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [endpoint], [])
        with pytest.raises(InUse, match=r"10\.32\.0\.2"):
            await overlay.blocks.release(BY_CONTROLLER, BLUE, first.cidr, H1)
        await overlay.blocks.release(BY_CONTROLLER, BLUE, second.cidr, H1)
        assert overlay.blocks.select(BLUE, None) == [first]
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [], [endpoint.key])
        await overlay.blocks.release(BY_CONTROLLER, BLUE, first.cidr, H1)
        assert overlay.blocks.select(BLUE, None) == []


async def test_a_host_of_schema_1_gets_its_blocks_of_the_range_that_it_is_told(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        first, second = pool("10.32.0.0/28", 28), pool("10.40.0.0/24", 28)
        await overlay.networks.create(BY_CONTROLLER, BLUE, (first, second), Topology.ROUTED, None)
        await make_host(overlay, 1)
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [], None)).result
        assert block.cidr == first.range
        with pytest.raises(Exhausted, match=r"all 1 blocks of 10\.32\.0\.0/28 are taken"):
            await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [block.cidr], None)
        assert contains(second.range, (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [block.cidr])).result.cidr)


async def test_a_release_may_be_repeated(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        await overlay.blocks.release(BY_CONTROLLER, BLUE, block.cidr, H1)
        before = await stored(store)
        await overlay.blocks.release(BY_CONTROLLER, BLUE, block.cidr, H1)
        await overlay.blocks.release(BY_CONTROLLER, NetworkName("never"), IPv4Network("10.0.0.0/26"), H1)
        assert await stored(store) == before


@pytest.mark.parametrize("attempt", range(10))
async def test_an_endpoint_is_never_left_without_its_block(tmp_path: Path, attempt: int) -> None:
    async with controllers(tmp_path, 2) as (store, both):
        await make_network(both[0])
        await make_host(both[0], 1)
        block = (await both[0].blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        await both[1].mirror.reached(both[0].mirror.revision)
        publish = both[0].endpoints.publish(BY_CONTROLLER, H1, [make_endpoint(block, 2)], [])
        release = both[1].blocks.release(BY_CONTROLLER, BLUE, block.cidr, H1)
        order = [publish, release] if attempt % 2 else [release, publish]
        outcomes = await asyncio.gather(*order, return_exceptions=True)
        assert {type(outcome).__name__ for outcome in outcomes} < {"Written", "InUse", "InvalidValue"}
        cluster = await whole_cluster(store)
        assert bool(cluster.endpoints) == bool(cluster.blocks)


async def test_a_host_gets_no_more_blocks_of_a_network_than_it_may_at_all_controllers_together(tmp_path: Path) -> None:
    async with store_at(tmp_path / "store.db", SystemClock()) as store, AsyncExitStack() as stack:
        both = [await stack.enter_async_context(controller_on(store, name, host_blocks=3)) for name in ("c1", "c2")]
        await make_network(both[0])
        for number in (1, 2):
            await make_host(both[0], number)
        every = list(IPv4Network("10.32.0.0/16").subnets(new_prefix=26))  # it has all, it says, and wants another one
        asked = (both[number % 2].blocks.acquire(BY_CONTROLLER, BLUE, H1, every) for number in range(10))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        refusals = [answer for answer in answers if isinstance(answer, Exhausted)]
        assert len(refusals) == 7
        assert "host host 1 has 3 blocks of network blue, as many as a host may" in str(refusals[0])
        held = [block for block in (await whole_cluster(store)).blocks.values() if block.host == H1]
        assert len(held) == 3
        again = (await both[1].blocks.acquire(BY_CONTROLLER, BLUE, H1, [held[0].cidr])).result
        assert again in held, "what it has it gets again"
        assert (await both[0].blocks.acquire(BY_CONTROLLER, BLUE, H2, [])).result.host == H2
