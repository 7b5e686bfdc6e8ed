"""Hosts that drain, and hosts that are gone for good."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from controller.identity.roles import Role
from controller.identity.tokens import TokenKind
from controller.journal.actor import BY_CONTROLLER
from controller.overlay import Overlay
from controller.state import keys
from controller.store.port import PutKey, Store, Transaction
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import InUse, NotFound, Stale, Unavailable
from overlayd.model.host import HostState
from overlayd.model.ids import NetworkName, ReservationName
from overlayd.model.reservation import Holder
from tests.support.controllers.overlays import (
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
from tests.support.controllers.virtual_clock import VirtualClock

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
    block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
    await overlay.blocks.acquire(BY_CONTROLLER, RED, H1, [])
    await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H2, [])
    endpoints = [make_endpoint(block, offset) for offset in range(2, 72)]
    await overlay.endpoints.publish(BY_CONTROLLER, H1, endpoints, [])
    await overlay.reservations.create(BY_CONTROLLER, BLUE, WEB)
    await overlay.reservations.claim(BY_CONTROLLER, BLUE, WEB, holder(endpoints[0]))


def holder(endpoint: Endpoint) -> Holder:
    return Holder(endpoint.host, endpoint.container_id, endpoint.interface)


@asynccontextmanager
async def two_hosts(directory: Path, quarantine: float = 60.0) -> AsyncIterator[tuple[Store, list[Overlay]]]:
    async with controllers(directory, 2, quarantine) as (store, both):
        await settle(both[0])
        await both[1].mirror.reached(both[0].mirror.revision)
        yield store, both


async def begin_to_forget(store: Store, overlays: list[Overlay]) -> None:
    """Leave host h1 as a controller does that dies in the middle."""
    leaving = replace(overlays[0].hosts.get(H1), state=HostState.FORGETTING)
    ops = (overlays[0].mirror.put(leaving), PutKey(keys.INTENT, keys.EMPTY))
    written = await store.commit(Transaction((), ops))
    for overlay in overlays:
        await overlay.mirror.reached(written.revision)


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
        await overlay.hosts.update(BY_CONTROLLER, H1, HostState.DRAINING)
        with pytest.raises(InUse, match="host 1 is draining and gets no block; overlayctl host resume h1"):
            await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        await overlay.reservations.release(BY_CONTROLLER, BLUE, WEB)
        other = make_endpoint(overlay.blocks.select(BLUE, H1)[0], 100)
        with pytest.raises(InUse, match="draining"):
            await overlay.reservations.claim(BY_CONTROLLER, BLUE, WEB, holder(other))
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [other], [])
        assert len(of_host_1(await whole_cluster(store))) == len(had)
        await overlay.hosts.update(BY_CONTROLLER, H1, HostState.ACTIVE)
        assert (await overlay.blocks.acquire(BY_CONTROLLER, RED, H1, [])).result.host == H1


async def test_what_a_forgotten_host_had_is_given_back(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (store, [overlay, _]):
        host, blocks = overlay.hosts.get(H1), overlay.blocks.select(None, H1)
        assert len(of_host_1(await whole_cluster(store))) == 2 + 70 + 1 + 1
        seen = overlay.mirror.mod_revision(keys.host(H1))
        await overlay.hosts.forget(BY_CONTROLLER, H1, seen)
        cluster, items = await whole_cluster(store), await stored(store)
        assert of_host_1(cluster) == []
        assert set(cluster.hosts) == {H2}
        assert set(cluster.reservations) == {(BLUE, WEB)}
        resting = [keys.number(host.number), keys.vtep(host.address)]
        resting += [keys.withheld(block.network, block.cidr) for block in blocks]
        assert all(items[key].lease for key in resting)
        assert keys.holdings(H1) not in items
        with pytest.raises(NotFound):
            await overlay.hosts.forget(BY_CONTROLLER, H1)


async def test_number_and_address_of_a_forgotten_host_rest(tmp_path: Path) -> None:
    async with two_hosts(tmp_path, BRIEF) as (_, [overlay, _]):
        await overlay.hosts.forget(BY_CONTROLLER, H1)
        assert (await make_host(overlay, 3)).number == 3
        with pytest.raises(InUse, match="is in quarantine"):
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
                await there.hosts.forget(BY_CONTROLLER, H1)
            assert await stored(store) == before


async def test_forgetting_may_name_the_revision_that_was_seen(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (_, [overlay, _]):
        seen = overlay.mirror.mod_revision(keys.host(H1))
        await overlay.hosts.update(BY_CONTROLLER, H1, HostState.DRAINING)
        with pytest.raises(Stale):
            await overlay.hosts.forget(BY_CONTROLLER, H1, seen)


async def test_a_deleted_network_goes_with_the_forgotten_host_that_was_its_last(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (store, [overlay, _]):
        await overlay.networks.delete(BY_CONTROLLER, RED)
        await overlay.hosts.forget(BY_CONTROLLER, H1)
        assert set((await whole_cluster(store)).networks) == {BLUE}


async def test_a_host_that_is_being_forgotten_gets_and_says_nothing(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (store, [here, there]):
        await begin_to_forget(store, [here, there])
        before = await stored(store)
        endpoint = make_endpoint(there.blocks.select(BLUE, H1)[0], 200)
        with pytest.raises(InUse, match="host 1 is being forgotten and gets no block"):
            await there.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        with pytest.raises(InUse, match="is being forgotten"):
            await there.endpoints.publish(BY_CONTROLLER, H1, [endpoint], [])
        with pytest.raises(InUse, match="forgetting and gets no reservation"):
            await there.reservations.claim(BY_CONTROLLER, BLUE, WEB, holder(endpoint))
        with pytest.raises(InUse, match="is being forgotten"):
            await there.hosts.update(BY_CONTROLLER, H1, HostState.ACTIVE)
        with pytest.raises(Unavailable, match="is being forgotten; it can register again after that"):
            await make_host(there, 1)
        with pytest.raises(Unavailable, match="is being forgotten"):
            there.hosts.welcome(H1)
        assert await stored(store) == before


@pytest.mark.parametrize("attempt", range(5))
async def test_what_a_host_asks_for_as_it_is_forgotten_is_not_left_behind(tmp_path: Path, attempt: int) -> None:
    async with two_hosts(tmp_path) as (store, [here, there]):
        endpoint = make_endpoint(there.blocks.select(BLUE, H1)[0], 200)
        asking = [
            there.blocks.acquire(BY_CONTROLLER, RED, H1, [block.cidr for block in there.blocks.select(RED, H1)]),
            there.endpoints.publish(BY_CONTROLLER, H1, [endpoint], []),
            there.reservations.claim(BY_CONTROLLER, BLUE, WEB, holder(endpoint)),
        ]
        asking.insert(attempt % 4, here.hosts.forget(BY_CONTROLLER, H1))
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(outcome).__name__ for outcome in outcomes} <= {"Written", "InUse", "NotFound", "InvalidValue"}
        assert of_host_1(await whole_cluster(store)) == []


async def test_the_feed_of_a_host_ends_when_it_is_forgotten(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (_, [here, there]):
        with here.feeds.open(H1, "i1") as feed:  # nobody has heard of it yet
            await here.hosts.forget(BY_CONTROLLER, H1)
            async with asyncio.timeout(30):
                sent = [message async for message in feed.messages(None)]
        assert sent
        assert here.mirror.intent.hosts.keys() == {H2}
        await there.mirror.reached(here.mirror.revision)
        with pytest.raises(NotFound):
            there.hosts.welcome(H1)


async def test_any_controller_completes_what_another_began(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (store, [here, there]):
        await begin_to_forget(store, [here, there])
        await there.hosts.forget(BY_CONTROLLER, H1)
        assert of_host_1(await whole_cluster(store)) == []


async def test_controllers_complete_by_themselves_what_was_begun(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (store, both):
        await begin_to_forget(store, both)
        clock = VirtualClock()
        passes = [asyncio.create_task(overlay.departures.run(clock), name="pass") for overlay in both]
        await clock.advance(10)
        await until(both[0], lambda: H1 not in both[0].mirror.intent.hosts)
        for each in passes:
            each.cancel()
        await asyncio.wait(passes)
        assert of_host_1(await whole_cluster(store)) == []


async def test_two_controllers_forget_one_host_at_once(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (store, [here, there]):
        outcomes = await asyncio.gather(
            here.hosts.forget(BY_CONTROLLER, H1), there.hosts.forget(BY_CONTROLLER, H1), return_exceptions=True
        )
        assert {type(outcome).__name__ for outcome in outcomes} <= {"Written", "NotFound"}
        assert of_host_1(await whole_cluster(store)) == []


async def test_the_credential_of_a_forgotten_host_is_revoked(tmp_path: Path) -> None:
    async with two_hosts(tmp_path) as (_, [overlay, _]):
        joining = (await overlay.tokens.create_join(BY_CONTROLLER, None, H1, 60)).result.token
        assert (await overlay.tokens.join(BY_CONTROLLER, joining.text, H1)).result.record.role is Role.HOST
        await overlay.hosts.forget(BY_CONTROLLER, H1)
        assert [record.kind for record in overlay.tokens.all()] == [TokenKind.JOIN]
