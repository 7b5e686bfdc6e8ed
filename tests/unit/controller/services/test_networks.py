import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.journal.actor import BY_CONTROLLER
from controller.overlay import Overlay
from controller.state import keys
from overlayd.model.errors import AlreadyExists, InUse, InvalidValue, NotFound
from overlayd.model.ids import NetworkName, Vni
from overlayd.model.network import NetworkState, Pool, Topology, Uplink
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


async def test_a_network_gets_the_lowest_free_vni(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await overlay.networks.create(BY_CONTROLLER, NetworkName("two"), (pool(),), Topology.ROUTED, Vni(2))
        vnis = [(await make_network(overlay, NetworkName(name))).vni for name in ("a", "b", "c")]
        assert vnis == [1, 3, 4]
        await overlay.networks.delete(BY_CONTROLLER, NetworkName("b"))
        assert (await make_network(overlay, NetworkName("d"))).vni == 3


async def test_networks_made_at_once_by_two_controllers_have_vnis_of_their_own(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, both):
        made = await asyncio.gather(*(make_network(both[n % 2], NetworkName(f"n{n}")) for n in range(40)))
        assert len({network.vni for network in made}) == 40
        assert {network.name: network for network in made} == (await whole_cluster(store)).networks


async def test_a_taken_vni_is_refused_and_names_its_holder(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await overlay.networks.create(BY_CONTROLLER, BLUE, (pool(),), Topology.ROUTED, Vni(7))
        before = await stored(store)
        with pytest.raises(AlreadyExists, match="network blue") as refused:
            await overlay.networks.create(BY_CONTROLLER, NetworkName("red"), (pool(),), Topology.ROUTED, Vni(7))
        assert refused.value.field == "vni"
        assert await stored(store) == before


async def test_of_networks_with_one_name_or_one_vni_made_at_once_one_is_made(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (_, both):
        same_name = [
            both[n % 2].networks.create(BY_CONTROLLER, BLUE, (pool(),), Topology.ROUTED, None) for n in range(10)
        ]
        same_vni = [
            both[n % 2].networks.create(BY_CONTROLLER, NetworkName(f"n{n}"), (pool(),), Topology.ROUTED, Vni(500))
            for n in range(10)
        ]
        for group in (same_name, same_vni):
            outcomes = await asyncio.gather(*group, return_exceptions=True)
            assert sum(isinstance(outcome, AlreadyExists) for outcome in outcomes) == 9


@pytest.mark.parametrize("vni", [0, 2**24])
async def test_a_vni_out_of_range_is_refused(tmp_path: Path, vni: int) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        with pytest.raises(InvalidValue) as refused:
            await overlay.networks.create(BY_CONTROLLER, BLUE, (pool(),), Topology.ROUTED, Vni(vni))
        assert refused.value.field == "vni"
        assert await stored(store) == {}


async def test_a_network_without_blocks_goes_at_once(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        assert (await overlay.networks.delete(BY_CONTROLLER, BLUE)).result is None
        assert set(await stored(store)) == {keys.INTENT}
        with pytest.raises(NotFound):
            await overlay.networks.delete(BY_CONTROLLER, BLUE)


async def test_a_network_with_endpoints_stays(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [make_endpoint(block, 2)], [])
        before = await stored(store)
        with pytest.raises(InUse, match="1 endpoints, one of them on host h1"):
            await overlay.networks.delete(BY_CONTROLLER, BLUE)
        assert await stored(store) == before


async def test_a_network_goes_with_its_last_block(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        for number, host in ((1, H1), (2, H2)):
            await make_host(overlay, number)
            await overlay.blocks.acquire(BY_CONTROLLER, BLUE, host, [])
        deleting = (await overlay.networks.delete(BY_CONTROLLER, BLUE)).result
        assert deleting is not None
        assert deleting.state is NetworkState.DELETING
        assert (await overlay.networks.delete(BY_CONTROLLER, BLUE)).result == deleting
        with pytest.raises(InUse, match="being deleted"):
            await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        first, second = overlay.blocks.select(BLUE, None)
        await overlay.blocks.release(BY_CONTROLLER, BLUE, first.cidr, first.host)
        assert overlay.networks.get(BLUE) == deleting
        written = await overlay.blocks.release(BY_CONTROLLER, BLUE, second.cidr, second.host)
        found = await stored(store)
        assert found[keys.INTENT].mod_revision == written.revision
        assert not [key for key in found if "/networks/" in key or "/vnis/" in key or "/blocks/" in key]


async def test_hosts_that_leave_a_deleted_network_all_at_once_take_it_with_them(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, both):
        await make_network(both[0])
        hosts = [await make_host(both[0], number) for number in range(1, 13)]
        for host in hosts:
            await both[0].blocks.acquire(BY_CONTROLLER, BLUE, host.id, [])
        await both[0].networks.delete(BY_CONTROLLER, BLUE)
        await both[1].mirror.reached(both[0].mirror.revision)
        blocks = both[0].blocks.select(BLUE, None)
        await asyncio.gather(
            *(both[n % 2].blocks.release(BY_CONTROLLER, BLUE, block.cidr, block.host) for n, block in enumerate(blocks))
        )
        cluster = await whole_cluster(store)
        assert (dict(cluster.networks), dict(cluster.blocks)) == ({}, {})


@pytest.mark.parametrize("attempt", range(10))
async def test_a_network_deleted_while_hosts_join_and_leave_ends_gone_or_with_a_block(
    tmp_path: Path, attempt: int
) -> None:
    async with controllers(tmp_path, 2) as (store, both):
        await make_network(both[0])
        hosts = [await make_host(both[0], number) for number in range(1, 7)]
        blocks = [(await both[0].blocks.acquire(BY_CONTROLLER, BLUE, host.id, [])).result for host in hosts[:3]]
        await both[1].mirror.reached(both[0].mirror.revision)
        leaving = [
            both[1].blocks.release(BY_CONTROLLER, BLUE, block.cidr, block.host) for block in blocks[: attempt % 4]
        ]
        joining = [both[1].blocks.acquire(BY_CONTROLLER, BLUE, host.id, []) for host in hosts[3 : 3 + attempt % 3]]
        deleting = asyncio.ensure_future(both[0].networks.delete(BY_CONTROLLER, BLUE))
        outcomes = await asyncio.gather(*leaving, deleting, *joining, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes if isinstance(outcome, Exception)} <= {InUse, NotFound}
        cluster = await whole_cluster(store)
        assert bool(cluster.networks) == bool(cluster.blocks)


@asynccontextmanager
async def reached_at(path: Path, *addresses: str) -> AsyncIterator[Overlay]:
    """Run a controller that hosts reach at these addresses, with host h1 at 192.0.2.1."""
    listening = [ip_address(each) for each in addresses]
    async with (
        store_at(path / "store.db", SystemClock()) as store,
        controller_on(store, addresses=listening) as overlay,
    ):
        await make_host(overlay, 1)
        yield overlay


def wide(*cidrs: str) -> tuple[Pool, ...]:
    return tuple(Pool(ip_network(cidr), 64 if ":" in cidr else 26) for cidr in cidrs)


async def test_hosts_are_not_made_members_of_a_range_that_holds_a_host_or_the_controller(tmp_path: Path) -> None:
    async with reached_at(tmp_path, "198.51.100.1", "2001:db8::1") as overlay:
        for cidr, what in (
            ("192.0.2.0/24", "192.0.2.1, the VTEP of host"),
            ("198.51.0.0/16", "198.51.100.1, this controller's address"),
            ("2001:db8::/48", "2001:db8::1, this controller's address"),
        ):
            before = overlay.mirror.revision
            with pytest.raises(InUse, match=what) as refused:
                await overlay.networks.create(
                    BY_CONTROLLER, BLUE, wide("10.32.0.0/16", cidr), Topology.ROUTED, None, uplink=Uplink.HOST
                )
            assert refused.value.field == "pools[1].range"
            assert overlay.mirror.revision == before


@pytest.mark.parametrize("kind", [Uplink.AUTO, Uplink.ISOLATED, Uplink.NONE])
async def test_where_hosts_isolate_such_a_network_by_themselves_it_is_a_warning(tmp_path: Path, kind: Uplink) -> None:
    async with reached_at(tmp_path) as overlay:
        made = await overlay.networks.create(
            BY_CONTROLLER, BLUE, wide("192.0.2.0/24"), Topology.ROUTED, None, uplink=kind
        )
        warnings = overlay.networks.warnings(made.result)
        if kind is Uplink.AUTO:
            assert warnings == (
                "hosts keep network blue isolated, as its range 192.0.2.0/24 holds 192.0.2.1, the VTEP of host host 1",
            )
        else:
            assert warnings == ()
        with pytest.raises(InUse, match=r"members of network blue") as refused:
            await overlay.networks.update(BY_CONTROLLER, BLUE, lambda found: replace(found, uplink=Uplink.HOST))
        assert refused.value.field == "pools[0].range"


async def test_a_network_into_whose_range_a_host_came_later_can_be_amended_but_not_widened_so(tmp_path: Path) -> None:
    async with reached_at(tmp_path) as overlay:
        await overlay.networks.create(
            BY_CONTROLLER, BLUE, wide("198.51.100.0/24"), Topology.ROUTED, None, uplink=Uplink.HOST
        )
        await overlay.hosts.register(BY_CONTROLLER, H2, "h2", ip_address("198.51.100.2"), "i2")
        amended = await overlay.networks.update(BY_CONTROLLER, BLUE, lambda found: replace(found, egress=False))
        assert len(overlay.networks.warnings(amended.result)) == 1
        with pytest.raises(InUse) as refused:
            await overlay.networks.update(
                BY_CONTROLLER, BLUE, lambda found: replace(found, pools=(*found.pools, *wide("192.0.2.0/24")))
            )
        assert refused.value.field == "pools[1].range"
        await overlay.networks.update(
            BY_CONTROLLER, BLUE, lambda found: replace(found, pools=(*found.pools, *wide("10.32.0.0/16")))
        )
        await overlay.networks.update(BY_CONTROLLER, BLUE, lambda found: replace(found, uplink=Uplink.ISOLATED))
        await overlay.networks.delete(BY_CONTROLLER, BLUE)
