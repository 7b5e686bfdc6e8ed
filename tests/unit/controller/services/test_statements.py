"""After a store was restored: hosts say what they use, and nothing of it is given to others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from controller.api.bodies import response_bodies
from controller.clock import SystemClock
from controller.journal.actor import BY_CONTROLLER
from controller.lifecycle import backup_file
from controller.overlay import Overlay
from controller.state import keys
from controller.store.port import Store
from controller.store.reading import everything
from overlayd.model.block import Block
from overlayd.model.cluster import Cluster
from overlayd.model.errors import AlreadyExists, InUse, Unavailable
from overlayd.model.host import Host
from overlayd.model.ids import (
    ContainerId,
    HostId,
    HostNumber,
    InterfaceName,
    NetworkName,
    ReservationName,
    Revision,
    Vni,
)
from overlayd.model.lineage import Lineage, Statement
from overlayd.model.network import Topology
from overlayd.model.reservation import Holder
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
    until,
    visible_to,
    whole_cluster,
)
from tests.support.controllers.virtual_clock import VirtualClock

pytestmark = pytest.mark.anyio

LATER = NetworkName("later")
WEB = ReservationName("web")


@dataclass(frozen=True, slots=True)
class Before:
    """What hosts knew when the store went back, and the backup to which it did."""

    saved: backup_file.Backup
    cluster: Cluster
    lineage: Lineage

    def statement(self, host: HostId) -> Statement:
        """Return what a host says that uses all its blocks."""
        known = visible_to(self.cluster, host)
        return Statement(
            self.lineage,
            known.revision,
            tuple((network.name, network.vni) for network in known.networks.values()),
            tuple(known.blocks.values()),
            (),
            tuple(each for each in known.reservations.values() if each.holder and each.holder.host == host),
        )


async def saved(store: Store) -> backup_file.Backup:
    return backup_file.of(*await everything(store, keys.ROOT))


async def known_of(store: Store, overlay: Overlay, of: backup_file.Backup) -> Before:
    assert overlay.mirror.lineage
    return Before(of, await whole_cluster(store), overlay.mirror.lineage.lineage)


@asynccontextmanager
async def restored(path: Path, before: Before) -> AsyncIterator[tuple[Store, Overlay]]:
    """Run a controller on a store that was made of a backup."""
    async with store_at(path, SystemClock()) as store:
        await backup_file.restore(store, before.saved)
        async with controller_on(store) as overlay:
            yield store, overlay


async def settled(overlay: Overlay) -> None:
    """Wait until nothing is held back any more."""
    await until(overlay, lambda: not overlay.recovery.is_under_way)


async def test_nothing_is_given_out_before_every_host_has_spoken(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        for number in (1, 2):
            await make_host(overlay, number)
        before = await known_of(store, overlay, await saved(store))
    async with restored(tmp_path / "restored.db", before) as (_, overlay):
        for refused in (
            overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, []),
            make_network(overlay, LATER),
            overlay.reservations.create(BY_CONTROLLER, BLUE, WEB),
            make_host(overlay, 3),
        ):
            with pytest.raises(Unavailable, match="the store was restored"):
                await refused
        assert [host.id for host in overlay.recovery.awaited()] == [H1, H2]
        await overlay.statements.take(BY_CONTROLLER, H1, before.statement(H1))
        assert [host.id for host in overlay.recovery.awaited()] == [H2]
        heard = {host: response_bodies.heard(overlay.statuses.get(host))["problems"] for host in (H1, H2)}
        assert heard[H1] == []
        assert "yet to say what it uses" in str(heard[H2])
        with pytest.raises(Unavailable, match="not heard yet: host 2"):
            await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        await overlay.statements.take(BY_CONTROLLER, H2, before.statement(H2))
        await settled(overlay)
        await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        await make_host(overlay, 3)


async def test_hosts_that_stay_away_hold_things_up_for_so_long_only(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        before = await known_of(store, overlay, await saved(store))
    async with store_at(tmp_path / "restored.db", SystemClock()) as store:
        await backup_file.restore(store, before.saved)
        async with controller_on(store, clock=clock) as overlay:
            await clock.advance(110)
            assert overlay.recovery.is_under_way
            await clock.advance(11)
            await settled(overlay)
            await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])


async def test_a_block_that_the_store_has_lost_is_its_hosts_again(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        for number in (1, 2):
            await make_host(overlay, number)
        of = await saved(store)
        mine = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H2, [])).result
        before = await known_of(store, overlay, of)
    async with restored(tmp_path / "restored.db", before) as (_, overlay):
        assert await overlay.statements.take(BY_CONTROLLER, H1, before.statement(H1)) == []
        assert await overlay.statements.take(BY_CONTROLLER, H2, before.statement(H2)) == []
        assert overlay.blocks.select(BLUE, None) == [mine]
        await settled(overlay)
        assert (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result.cidr != mine.cidr


async def test_a_network_that_is_lost_keeps_its_vni_and_its_addresses_until_it_is_made_again(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        for number in (1, 2, 3):
            await make_host(overlay, number)
        of = await saved(store)
        later = await make_network(overlay, LATER)
        blocks = [
            (await overlay.blocks.acquire(BY_CONTROLLER, LATER, HostId(f"h{number}"), [])).result for number in (1, 2)
        ]
        before = await known_of(store, overlay, of)
    async with restored(tmp_path / "restored.db", before) as (_, overlay):
        for number in (1, 2, 3):
            host = HostId(f"h{number}")
            assert await overlay.statements.take(BY_CONTROLLER, host, before.statement(host)) == []
        await settled(overlay)
        assert (await make_network(overlay, BLUE)).vni != later.vni
        with pytest.raises(AlreadyExists) as caught:
            await overlay.networks.create(BY_CONTROLLER, NetworkName("red"), (pool(),), Topology.ROUTED, later.vni)
        assert caught.value.field == "vni"
        assert (await make_network(overlay, LATER)).vni == later.vni
        fresh = (await overlay.blocks.acquire(BY_CONTROLLER, LATER, HostId("h3"), [])).result
        assert all(not fresh.cidr.overlaps(block.cidr) for block in blocks if isinstance(fresh.cidr, IPv4Network))
        await until(overlay, lambda: {*blocks} <= {*overlay.blocks.select(LATER, None)})


async def test_addresses_in_use_are_not_in_blocks_of_a_network_that_is_made_again_otherwise(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        for number in (1, 2):
            await make_host(overlay, number)
        of = await saved(store)
        await make_network(overlay, LATER)
        mine = (await overlay.blocks.acquire(BY_CONTROLLER, LATER, H1, [])).result
        before = await known_of(store, overlay, of)
    async with restored(tmp_path / "restored.db", before) as (_, overlay):
        for host in (H1, H2):
            await overlay.statements.take(BY_CONTROLLER, host, before.statement(host))
        await settled(overlay)
        await make_network(overlay, LATER, pool("10.32.0.0/24", 28))
        held: list[Block] = []
        for _ in range(12):
            held.append((await overlay.blocks.acquire(BY_CONTROLLER, LATER, H2, [block.cidr for block in held])).result)
        assert not any(block.cidr.overlaps(mine.cidr) for block in held if isinstance(block.cidr, IPv4Network))
        with pytest.raises(InUse, match="which host h1 uses"):
            await overlay.reservations.create(BY_CONTROLLER, LATER, WEB, [IPv4Address("10.32.0.5")])


async def test_what_is_not_used_any_more_is_free(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        of = await saved(store)
        later = await make_network(overlay, LATER)
        await overlay.blocks.acquire(BY_CONTROLLER, LATER, H1, [])
        before = await known_of(store, overlay, of)
    async with restored(tmp_path / "restored.db", before) as (store, overlay):
        await overlay.statements.take(BY_CONTROLLER, H1, before.statement(H1))
        await settled(overlay)
        assert await store.get(keys.vni(later.vni))
        await overlay.statements.take(BY_CONTROLLER, H1, Statement(before.lineage, Revision(9)))
        assert await store.get(keys.vni(later.vni)) is None
        assert (await store.page(keys.withheld_of(LATER))).items == ()
        assert (await make_network(overlay, BLUE)).vni == later.vni


async def test_a_host_that_the_store_has_lost_is_covered_by_what_others_know(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        of = await saved(store)
        lost = await make_host(overlay, 2)
        for host in (H1, H2):
            await overlay.blocks.acquire(BY_CONTROLLER, BLUE, host, [])
        before = await known_of(store, overlay, of)
    [theirs] = [block for block in before.cluster.blocks.values() if block.host == H2]
    async with restored(tmp_path / "restored.db", before) as (_, overlay):
        await overlay.statements.take(BY_CONTROLLER, H1, before.statement(H1))
        await settled(overlay)
        held = [block.cidr for block in overlay.blocks.select(BLUE, H1)]
        assert (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, held)).result.cidr != theirs.cidr
        again = await overlay.hosts.register(BY_CONTROLLER, H2, "host 2", lost.address, "i2", lost.number)
        assert again.result.number == lost.number
        await until(overlay, lambda: overlay.blocks.select(BLUE, H2) == [theirs])


async def test_a_host_that_is_away_is_covered_by_what_others_know(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        for number in (1, 2):
            await make_host(overlay, number)
        of = await saved(store)
        for host in (H1, H2):
            await overlay.blocks.acquire(BY_CONTROLLER, BLUE, host, [])
        before = await known_of(store, overlay, of)
    async with restored(tmp_path / "restored.db", before) as (_, overlay):
        await overlay.statements.take(BY_CONTROLLER, H1, before.statement(H1))
        assert {*overlay.blocks.select(BLUE, None)} == {*before.cluster.blocks.values()}


async def test_what_is_withheld_for_a_host_that_never_comes_goes_when_it_is_forgotten(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        of = await saved(store)
        await make_host(overlay, 2)
        for host in (H1, H2):
            await overlay.blocks.acquire(BY_CONTROLLER, BLUE, host, [])
        before = await known_of(store, overlay, of)
    async with restored(tmp_path / "restored.db", before) as (store, overlay):
        await overlay.statements.take(BY_CONTROLLER, H1, before.statement(H1))
        assert len((await store.page(keys.withheld_of(BLUE))).items) == 1
        await overlay.hosts.forget(BY_CONTROLLER, H2)
        assert (await store.page(keys.withheld_of(BLUE))).items == ()


async def test_two_that_use_one_block_are_named(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        for number in (1, 2):
            await make_host(overlay, number)
        of = await saved(store)
        await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        before = await known_of(store, overlay, of)
    stolen = replace(before.statement(H1), blocks=tuple(replace(each, host=H2) for each in before.statement(H1).blocks))
    async with restored(tmp_path / "restored.db", before) as (_, overlay):
        assert await overlay.statements.take(BY_CONTROLLER, H1, before.statement(H1)) == []
        [dispute] = await overlay.statements.take(BY_CONTROLLER, H2, stolen)
        assert "host h1" in dispute
        assert [block.host for block in overlay.blocks.select(BLUE, None)] == [H1]


async def test_a_block_that_a_host_had_given_back_by_then_is_anothers(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1, quarantine=1) as (store, [overlay]):
        await make_network(overlay)
        for number in (1, 2):
            await make_host(overlay, number)
        first = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [make_endpoint(first, 2)], ())
        of = await saved(store)
        await overlay.endpoints.publish(BY_CONTROLLER, H1, (), [make_endpoint(first, 2).key])
        await overlay.blocks.release(BY_CONTROLLER, BLUE, first.cidr, H1)
        await until(overlay, lambda: overlay.mirror.mod_revision(keys.withheld(BLUE, first.cidr)) == 0)
        assert (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H2, [])).result.cidr == first.cidr
        before = await known_of(store, overlay, of)
    async with restored(tmp_path / "restored.db", before) as (_, overlay):
        assert await overlay.statements.take(BY_CONTROLLER, H1, before.statement(H1)) == []
        assert await overlay.statements.take(BY_CONTROLLER, H2, before.statement(H2)) == []
        assert overlay.blocks.select(BLUE, None) == [replace(first, host=H2)]
        assert overlay.endpoints.select(BLUE, None) == []


@pytest.mark.parametrize("is_in_backup", [True, False])
async def test_a_reservation_is_held_by_who_holds_it(tmp_path: Path, *, is_in_backup: bool) -> None:
    holder = Holder(H1, ContainerId("c"), InterfaceName("eth0"))
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        of = await saved(store)
        await overlay.reservations.create(BY_CONTROLLER, BLUE, WEB)
        of = await saved(store) if is_in_backup else of
        await overlay.reservations.claim(BY_CONTROLLER, BLUE, WEB, holder)
        before = await known_of(store, overlay, of)
    async with restored(tmp_path / "restored.db", before) as (_, overlay):
        assert await overlay.statements.take(BY_CONTROLLER, H1, before.statement(H1)) == []
        assert overlay.reservations.get(BLUE, WEB) == before.cluster.reservations[BLUE, WEB]
        await settled(overlay)
        with pytest.raises(AlreadyExists):
            await overlay.reservations.create(
                BY_CONTROLLER, BLUE, ReservationName("other"), before.cluster.reservations[BLUE, WEB].addresses
            )


async def test_a_host_of_another_cluster_has_nothing_to_say(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        foreign = Statement(
            Lineage.founded(), Revision(99), ((BLUE, Vni(9)),), (Block(BLUE, IPv4Network("10.32.1.0/26"), H1),)
        )
        assert await overlay.statements.take(BY_CONTROLLER, H1, foreign) == []
        assert overlay.blocks.select(BLUE, None) == []
        assert (await store.page(keys.withheld_of(BLUE))).items == ()


async def test_a_host_that_knows_a_later_revision_makes_the_store_begin_another_lineage_once(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with store_at(path, SystemClock()) as store, controller_on(store) as overlay:
        await make_host(overlay, 1)
        first = overlay.mirror.lineage
        assert first
        await overlay.recovery.compare(BY_CONTROLLER, H1, first.lineage, overlay.mirror.intent_revision)
        with pytest.raises(Unavailable, match="older than what this host knows"):
            await overlay.recovery.compare(BY_CONTROLLER, H1, first.lineage, Revision(1_000_000))
        async with asyncio.timeout(30):
            await overlay.mirror.replaced()
    async with store_at(path, SystemClock()) as store, controller_on(store) as overlay:
        second = overlay.mirror.lineage
        assert second
        assert (second.parent, second.settled) == (first.lineage, False)
        await overlay.recovery.compare(BY_CONTROLLER, H1, second.lineage, Revision(2_000_000))
        assert overlay.mirror.lineage == second


async def test_a_host_says_which_number_it_had(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)

        async def numbered(host: str, last: int, number: int) -> Host:
            address = IPv4Address("192.0.2.0") + last
            return (
                await overlay.hosts.register(BY_CONTROLLER, HostId(host), host, address, "i", HostNumber(number))
            ).result

        assert (await numbered("h2", 2, 7)).number == 7
        assert (await numbered("h3", 3, 7)).number == 2, "which was the lowest free one: 7 is taken"
