"""Hosts that drain, and hosts that are gone for good."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller.identity.roles import Role
from controller.services import keys
from controller.services.overlay import Overlay
from controller.store.port import Store
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import InUse, NotFound, Stale, Unavailable
from overlayd.model.host import HostState
from overlayd.model.ids import NetworkName, ReservationName
from overlayd.model.reservation import Holder
from tests.unit.controller.overlays import (
    BLUE,
    H1,
    H2,
    controllers,
    make_endpoint,
    make_host,
    make_network,
    pool,
    stored,
    until,
    until_heard,
    whole_cluster,
)

pytestmark = pytest.mark.anyio

WEB = ReservationName("web")
RED = NetworkName("red")
BRIEF = 0.1


async def settle(overlay: Overlay) -> None:
    """Give h1 two blocks, 70 endpoints and a reservation, and h2 a block, in networks blue and red."""
    for name in (BLUE, RED):
        await make_network(overlay, name, pool(block_length=24))
    for number in (1, 2):
        await make_host(overlay, number)
    block = (await overlay.blocks.acquire(BLUE, H1, [])).result
    await overlay.blocks.acquire(RED, H1, [])
    await overlay.blocks.acquire(BLUE, H2, [])
    endpoints = [make_endpoint(block, offset) for offset in range(2, 72)]
    await overlay.endpoints.publish(H1, endpoints, [])
    await overlay.reservations.create(BLUE, WEB)
    await overlay.reservations.claim(BLUE, WEB, holder(endpoints[0]))


def holder(endpoint: Endpoint) -> Holder:
    return Holder(endpoint.host, endpoint.container_id, endpoint.interface)


@asynccontextmanager
async def two_hosts(directory: Path, quarantine: float = 60.0) -> AsyncIterator[tuple[Store, list[Overlay]]]:
    async with controllers(directory, 2, quarantine) as (store, both):
        await settle(both[0])
        await both[1].mirror.reached(both[0].mirror.revision)
        yield store, both


def of_host_1(cluster: Cluster) -> list[object]:
    return [
        *(block for block in cluster.blocks.values() if block.host == H1),
        *(endpoint for endpoint in cluster.endpoints.values() if endpoint.host == H1),
        *(each for each in cluster.reservations.values() if each.holder and each.holder.host == H1),
        *(host for host in cluster.hosts.values() if host.id == H1),
    ]


async def test_a_draining_host_keeps_what_it_has_and_gets_nothing_new(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (store, [overlay, _]):
        had = of_host_1(await whole_cluster(store))
        await overlay.hosts.update(H1, HostState.DRAINING)
        with pytest.raises(InUse, match="host 1 is draining and gets no block; overlayctl host resume h1"):
            await overlay.blocks.acquire(BLUE, H1, [])
        await overlay.reservations.release(BLUE, WEB)
        other = make_endpoint(overlay.blocks.select(BLUE, H1)[0], 100)
        with pytest.raises(InUse, match="draining"):
            await overlay.reservations.claim(BLUE, WEB, holder(other))
        await overlay.endpoints.publish(H1, [other], [])
        assert len(of_host_1(await whole_cluster(store))) == len(had)
        await overlay.hosts.update(H1, HostState.ACTIVE)
        assert (await overlay.blocks.acquire(RED, H1, [])).result.host == H1


async def test_what_a_forgotten_host_had_is_given_back(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (store, [overlay, _]):
        host, blocks = overlay.hosts.get(H1), overlay.blocks.select(None, H1)
        assert len(of_host_1(await whole_cluster(store))) == 2 + 70 + 1 + 1
        seen = overlay.mirror.mod_revision(keys.host(H1))
        await overlay.hosts.forget(H1, seen)
        cluster, items = await whole_cluster(store), await stored(store)
        assert of_host_1(cluster) == []
        assert set(cluster.hosts) == {H2}
        assert set(cluster.reservations) == {(BLUE, WEB)}
        resting = [keys.number(host.number), keys.vtep(host.address)]
        resting += [keys.withheld(block.network, block.cidr) for block in blocks]
        assert all(items[key].lease for key in resting)
        assert keys.holdings(H1) not in items
        with pytest.raises(NotFound):
            await overlay.hosts.forget(H1)


async def test_number_and_address_of_a_forgotten_host_rest(tmp_path: Path) -> None:
    async with two_hosts(tmp_path, BRIEF) as (_, [overlay, _]):
        await overlay.hosts.forget(H1)
        assert (await make_host(overlay, 3)).number == 3
        with pytest.raises(Unavailable, match="is in quarantine"):
            await make_host(overlay, 1)
        await until(overlay, lambda: 1 in overlay.mirror.occupancy.numbers)
        assert (await make_host(overlay, 1)).number == 1
        assert overlay.blocks.select(None, H1) == []


async def test_a_connected_host_is_not_forgotten(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (store, [here, there]):
        with here.feeds.open(H1, "i1"):
            await until_heard(there, H1, lambda presence: presence is not None)
            before = await stored(store)
            with pytest.raises(InUse, match="host 1 is connected; stop its agent"):
                await there.hosts.forget(H1)
            assert await stored(store) == before


async def test_forgetting_may_name_the_revision_that_was_seen(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (_, [overlay, _]):
        seen = overlay.mirror.mod_revision(keys.host(H1))
        await overlay.hosts.update(H1, HostState.DRAINING)
        with pytest.raises(Stale):
            await overlay.hosts.forget(H1, seen)


async def test_a_deleted_network_goes_with_the_forgotten_host_that_was_its_last(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (store, [overlay, _]):
        await overlay.networks.delete(RED)
        await overlay.hosts.forget(H1)
        assert set((await whole_cluster(store)).networks) == {BLUE}


async def test_a_host_that_is_being_forgotten_gets_and_says_nothing(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (store, [here, there]):
        block = here.blocks.select(BLUE, H1)[0]
        forgetting = asyncio.ensure_future(here.hosts.forget(H1))
        await until(there, lambda: there.hosts.get(H1).state is HostState.FORGETTING)
        endpoint = make_endpoint(block, 200)
        refused = await asyncio.gather(
            there.blocks.acquire(BLUE, H1, []),
            there.endpoints.publish(H1, [endpoint], []),
            there.reservations.claim(BLUE, WEB, holder(endpoint)),
            there.hosts.update(H1, HostState.ACTIVE),
            make_host(there, 1),
            return_exceptions=True,
        )
        assert {type(each) for each in refused} <= {InUse, NotFound, Unavailable}
        await forgetting
        assert of_host_1(await whole_cluster(store)) == []


async def test_any_controller_completes_what_another_began(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (store, [here, there]):
        forgetting = asyncio.ensure_future(here.hosts.forget(H1))
        await until(there, lambda: len(there.mirror.intent.endpoints_of(H1)) < 70)
        forgetting.cancel()
        await asyncio.wait([forgetting])
        assert of_host_1(await whole_cluster(store))
        await there.hosts.forget(H1)
        assert of_host_1(await whole_cluster(store)) == []


async def test_two_controllers_forget_one_host_at_once(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (store, [here, there]):
        outcomes = await asyncio.gather(here.hosts.forget(H1), there.hosts.forget(H1), return_exceptions=True)
        assert {type(outcome).__name__ for outcome in outcomes} <= {"Written", "NotFound"}
        assert of_host_1(await whole_cluster(store)) == []


async def test_the_credential_of_a_forgotten_host_is_revoked(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (_, [overlay, _]):
        joining = (await overlay.tokens.create_join(None, H1, 60)).result.token
        assert (await overlay.tokens.join(joining.text, H1)).result.record.role is Role.HOST
        await overlay.hosts.forget(H1)
        assert overlay.tokens.all() == []
