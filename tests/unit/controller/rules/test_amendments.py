"""Networks that change while hosts take part in them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from controller.journal.actor import BY_CONTROLLER
from controller.state import keys
from overlayd.model.errors import InUse, InvalidValue, Stale
from overlayd.model.ids import NetworkName, Vni
from overlayd.model.network import Network, NetworkState, Topology
from tests.support.controllers.overlays import (
    BLUE,
    H1,
    controllers,
    make_host,
    make_network,
    pool,
    stored,
    whole_cluster,
)

pytestmark = pytest.mark.anyio

SECOND = pool("10.40.0.0/24", 28)


def also(network: Network) -> Network:
    return replace(network, pools=(*network.pools, SECOND))


def only_second(network: Network) -> Network:
    return replace(network, pools=(SECOND,))


def reserving(*cidrs: str) -> Callable[[Network], Network]:
    return lambda network: replace(network, reserved=tuple(IPv4Network(cidr) for cidr in cidrs))


async def test_a_range_comes_while_hosts_have_blocks_and_goes_when_it_is_empty(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        amended = (await overlay.networks.update(BY_CONTROLLER, BLUE, also)).result
        assert [str(each.range) for each in amended.pools] == ["10.32.0.0/16", "10.40.0.0/24"]
        with pytest.raises(InUse, match=r"10\.32\.0\.0/26 belongs to host h1") as refused:
            await overlay.networks.update(BY_CONTROLLER, BLUE, only_second)
        assert refused.value.field == "pools"
        await overlay.networks.update(BY_CONTROLLER, BLUE, lambda network: replace(network, pools=network.pools[:1]))
        assert (await whole_cluster(store)).networks[BLUE].pools == (pool(),)
        assert overlay.blocks.select(BLUE, None) == [block]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda network: replace(network, name=NetworkName("red")), "name"),
        (lambda network: replace(network, vni=Vni(77)), "vni"),
        (lambda network: replace(network, topology=Topology.SWITCHED), "topology"),
        (lambda network: replace(network, state=NetworkState.DELETING), "state"),
        (lambda network: replace(network, pools=(SECOND, pool(block_length=27))), "pools[1].block_length"),
        (lambda network: replace(network, pools=()), "pools"),
        (lambda network: replace(network, pools=(SECOND, *network.pools)), "pools"),
        (reserving("10.99.0.0/24"), "reserved[0]"),
    ],
)
async def test_what_never_changes_is_refused_with_its_field(
    tmp_path: Path, change: Callable[[Network], Network], field: str
) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        before = await stored(store)
        with pytest.raises(InvalidValue) as refused:
            await overlay.networks.update(BY_CONTROLLER, BLUE, change)
        assert refused.value.field == field
        assert await stored(store) == before


async def test_nothing_is_reserved_in_a_block_that_a_host_has(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        await overlay.networks.update(BY_CONTROLLER, BLUE, reserving("10.32.0.8/30", "10.32.0.12/30"))
        await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        with pytest.raises(InUse, match=r"10\.32\.0\.16/32 overlaps block 10\.32\.0\.0/26 of host h1") as refused:
            await overlay.networks.update(BY_CONTROLLER, BLUE, reserving("10.32.0.8/29", "10.32.0.16/32"))
        assert refused.value.field == "reserved"
        amended = await overlay.networks.update(BY_CONTROLLER, BLUE, reserving("10.32.0.8/29", "10.32.1.0/24"))
        assert [str(each) for each in amended.result.reserved] == ["10.32.0.8/29", "10.32.1.0/24"]


async def test_a_network_that_is_being_deleted_is_not_amended(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        await overlay.networks.delete(BY_CONTROLLER, BLUE)
        with pytest.raises(InUse, match="is being deleted"):
            await overlay.networks.update(BY_CONTROLLER, BLUE, also)


async def test_a_change_made_for_another_revision_is_stale(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, [here, there]):
        await make_network(here)
        seen = here.mirror.mod_revision(keys.network(BLUE))
        amended = await there.networks.update(BY_CONTROLLER, BLUE, also, seen)
        before = await stored(store)
        with pytest.raises(Stale):
            await here.networks.update(
                BY_CONTROLLER, BLUE, lambda network: replace(network, pools=network.pools[:1]), seen
            )
        with pytest.raises(Stale):
            await here.networks.delete(BY_CONTROLLER, BLUE, seen)
        assert await stored(store) == before
        assert (await here.networks.delete(BY_CONTROLLER, BLUE, amended.revision)).result is None


@pytest.mark.parametrize("attempt", range(10))
async def test_a_range_that_goes_while_a_host_joins_leaves_no_block_behind(tmp_path: Path, attempt: int) -> None:
    async with controllers(tmp_path, 2) as (store, both):
        await make_network(both[0])
        await make_host(both[0], 1)
        await both[0].networks.update(BY_CONTROLLER, BLUE, also)
        await both[1].mirror.reached(both[0].mirror.revision)
        joining, going = (
            both[0].blocks.acquire(BY_CONTROLLER, BLUE, H1, []),
            both[1].networks.update(BY_CONTROLLER, BLUE, only_second),
        )
        order = [joining, going] if attempt % 2 else [going, joining]
        outcomes = await asyncio.gather(*order, return_exceptions=True)
        assert {type(outcome).__name__ for outcome in outcomes} <= {"Written", "InUse"}
        cluster = await whole_cluster(store)
        assert all(cluster.networks[BLUE].pool_of(block.cidr) for block in cluster.blocks.values())
