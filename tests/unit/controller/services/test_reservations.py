"""Addresses held for a name: reserved once, withheld from hosts, and with one holder at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

import pytest

from controller.journal.actor import BY_CONTROLLER
from controller.overlay import Overlay
from controller.state import keys
from controller.state.address_space import Withholding
from controller.store.port import Store
from overlayd.model.address import Family, IpAddress
from overlayd.model.block import Block
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import AlreadyExists, Exhausted, InUse, InvalidValue, NotFound, OverlayError, Stale
from overlayd.model.host import HostState
from overlayd.model.ids import ContainerId, HostId, InterfaceName, MacAddress, ReservationName
from overlayd.model.network import Pool, Topology
from overlayd.model.reservation import Holder, Reservation
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
    whole_cluster,
)

pytestmark = pytest.mark.anyio

WEB, DB = ReservationName("web"), ReservationName("db")
BRIEF = 0.1
V6 = Pool(IPv6Network("fd00:1::/48"), 112)


def ip(text: str) -> IpAddress:
    return ip_address(text)


@asynccontextmanager
async def a_network(
    directory: Path, number: int = 1, quarantine: float = 60.0, *reserved: str
) -> AsyncIterator[tuple[Store, list[Overlay]]]:
    """Run controllers with hosts h1 and h2, and network blue: 10.32.0.0/24 in blocks of 16."""
    async with controllers(directory, number, quarantine) as (store, all_of_them):
        here = all_of_them[0]
        kept = tuple(IPv4Network(each) for each in reserved)
        await here.networks.create(BY_CONTROLLER, BLUE, (pool("10.32.0.0/24", 28),), Topology.ROUTED, None, kept)
        for host in (1, 2):
            await make_host(here, host)
        for other in all_of_them[1:]:
            await other.mirror.reached(here.mirror.revision)
        yield store, all_of_them


async def reserved(overlay: Overlay, name: ReservationName, *addresses: str) -> list[str]:
    made = await overlay.reservations.create(BY_CONTROLLER, BLUE, name, [ip(each) for each in addresses])
    return [str(address) for address in made.result.addresses]


def with_address(endpoint: Endpoint, reservation: Reservation) -> Endpoint:
    return replace(endpoint, addresses=reservation.addresses)


def holder(endpoint: Endpoint) -> Holder:
    return Holder(endpoint.host, endpoint.container_id, endpoint.interface)


def assert_apart(cluster: Cluster) -> None:
    """Check that no reserved address is a host's to give out."""
    for reservation in cluster.reservations.values():
        network = cluster.networks[reservation.network]
        for address in reservation.addresses:
            if not any(address in kept for kept in network.reserved):
                blocks = [block.cidr for block in cluster.blocks.values() if block.network == network.name]
                assert not any(address in cidr for cidr in blocks)


async def test_the_lowest_address_is_reserved_and_its_unit_withheld_from_hosts(tmp_path: Path) -> None:
    async with a_network(tmp_path) as (store, [overlay]):
        assert await reserved(overlay, WEB) == ["10.32.0.2"]
        assert await reserved(overlay, DB) == ["10.32.0.3"]
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        assert str(block.cidr) == "10.32.0.16/28"
        more = [await reserved(overlay, ReservationName(f"n{number}")) for number in range(12)]
        assert [first for (first,) in more] == [f"10.32.0.{number}" for number in (*range(4, 16), 33)][:12]
        assert await reserved(overlay, ReservationName("next")) == ["10.32.0.33"]
        assert overlay.mirror.occupancy.space(BLUE).withheld == {
            IPv4Network("10.32.0.0/28"): Withholding.RESERVATIONS,
            IPv4Network("10.32.0.32/28"): Withholding.RESERVATIONS,
        }
        assert_apart(await whole_cluster(store))


async def test_one_of_each_family(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await overlay.networks.create(BY_CONTROLLER, BLUE, (pool("10.32.0.0/24", 28), V6), Topology.SWITCHED, None)
        assert await reserved(overlay, WEB) == ["10.32.0.3", "fd00:1::3"]
        assert await reserved(overlay, DB, "fd00:1::77") == ["fd00:1::77"]
        both = await overlay.reservations.create(
            BY_CONTROLLER, BLUE, ReservationName("both"), [ip("fd00:1::99")], [Family.V4]
        )
        assert [str(address) for address in both.result.addresses] == ["fd00:1::99", "10.32.0.4"]
        with pytest.raises(InvalidValue, match="one of each family"):
            await overlay.reservations.create(
                BY_CONTROLLER, BLUE, ReservationName("two"), [ip("10.32.0.9"), ip("10.32.0.10")]
            )


@pytest.mark.parametrize(
    ("address", "error", "reason"),
    [
        ("10.33.0.1", InvalidValue, "lies in no range"),
        ("fd00::1", InvalidValue, "lies in no range"),
        ("10.32.0.0", InvalidValue, "network, broadcast or gateway"),
        ("10.32.0.255", InvalidValue, "network, broadcast or gateway"),
        ("10.32.0.5", AlreadyExists, "belongs to reservation web"),
        ("10.32.0.20", InUse, r"in block 10\.32\.0\.16/28 of host h1"),
        ("10.32.0.33", InUse, r"in 10\.32\.0\.32/28, which is in quarantine"),
        ("10.32.0.48", InvalidValue, r"kept for the host that gets 10\.32\.0\.48/28"),
    ],
)
async def test_an_address_that_is_not_to_be_had_is_refused(
    tmp_path: Path, address: str, error: type[OverlayError], reason: str
) -> None:
    async with a_network(tmp_path, 1, 60.0, "10.32.0.48/31") as (store, [overlay]):
        await reserved(overlay, WEB, "10.32.0.5")
        mine = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        second = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [mine.cidr])).result
        await overlay.blocks.release(BY_CONTROLLER, BLUE, second.cidr, H1)
        before = await stored(store)
        with pytest.raises(error, match=reason) as refused:
            await reserved(overlay, DB, address)
        assert refused.value.field == "addresses[0]"
        assert await stored(store) == before


async def test_what_the_network_reserves_needs_no_unit(tmp_path: Path) -> None:
    async with a_network(tmp_path, 1, 60.0, "10.32.0.8/29") as (_, [overlay]):
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        assert str(block.cidr) == "10.32.0.0/28"
        assert await reserved(overlay, WEB, "10.32.0.9") == ["10.32.0.9"]
        assert overlay.mirror.occupancy.space(BLUE).withheld == {}
        with pytest.raises(InUse, match=r"10\.32\.0\.9 belongs to reservation web"):
            await overlay.networks.update(BY_CONTROLLER, BLUE, lambda network: replace(network, reserved=()))
        done = await overlay.endpoints.publish(
            BY_CONTROLLER, H1, [make_endpoint(block, 9), make_endpoint(block, 10)], []
        )
        assert [type(refusal.error) for refusal in done.result] == [AlreadyExists, InvalidValue]
        assert "held by reservation web" in str(done.result[0].error)
        assert "is reserved" in str(done.result[1].error)


async def test_a_name_is_reserved_once(tmp_path: Path) -> None:
    async with a_network(tmp_path) as (_, [overlay]):
        await reserved(overlay, WEB)
        with pytest.raises(AlreadyExists) as refused:
            await reserved(overlay, WEB)
        assert refused.value.field == "name"
        with pytest.raises(NotFound):
            overlay.reservations.get(BLUE, DB)


async def test_only_the_mac_changes(tmp_path: Path) -> None:
    async with a_network(tmp_path) as (store, [overlay]):
        await reserved(overlay, WEB)
        mac = MacAddress("02:00:00:00:00:99")
        seen = overlay.mirror.mod_revision(keys.reservation(BLUE, WEB))
        amended = await overlay.reservations.update(
            BY_CONTROLLER, BLUE, WEB, lambda found: replace(found, mac=mac), seen
        )
        assert amended.result.mac == mac
        with pytest.raises(Stale):
            await overlay.reservations.update(BY_CONTROLLER, BLUE, WEB, lambda found: replace(found, mac=None), seen)
        before = await stored(store)
        with pytest.raises(InvalidValue) as refused:
            await overlay.reservations.update(
                BY_CONTROLLER, BLUE, WEB, lambda found: replace(found, addresses=(ip("10.32.0.9"),))
            )
        assert refused.value.field == "addresses"
        with pytest.raises(Stale):
            await overlay.reservations.delete(BY_CONTROLLER, BLUE, WEB, seen)
        assert await stored(store) == before


async def test_an_address_rests_when_its_reservation_goes_and_a_unit_when_its_last_one_does(tmp_path: Path) -> None:
    async with a_network(tmp_path, 1, BRIEF) as (store, [overlay]):
        unit = IPv4Network("10.32.0.0/28")
        await reserved(overlay, WEB, "10.32.0.5")
        await reserved(overlay, DB, "10.32.0.6")
        await overlay.reservations.delete(BY_CONTROLLER, BLUE, WEB)
        space = overlay.mirror.occupancy.space(BLUE)
        assert space.withheld == {unit: Withholding.RESERVATIONS}
        with pytest.raises(InUse, match="in quarantine"):
            await reserved(overlay, WEB, "10.32.0.5")
        await until(overlay, lambda: not space.resting)
        assert await reserved(overlay, WEB, "10.32.0.5") == ["10.32.0.5"]
        for name in (WEB, DB):
            await overlay.reservations.delete(BY_CONTROLLER, BLUE, name)
        assert space.withheld == {unit: Withholding.QUARANTINE}
        assert str((await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result.cidr) == "10.32.0.16/28"
        await until(overlay, lambda: not overlay.mirror.occupancy.space(BLUE).withheld)
        assert (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H2, [])).result.cidr == unit
        assert not [key for key in await stored(store) if "/addresses/" in key or "/resting/" in key]


async def test_a_network_with_reservations_stays_and_so_does_their_range(tmp_path: Path) -> None:
    async with a_network(tmp_path) as (_, [overlay]):
        await reserved(overlay, WEB)
        with pytest.raises(InUse, match="one of them is web"):
            await overlay.networks.delete(BY_CONTROLLER, BLUE)
        with pytest.raises(InUse, match="belongs to reservation web"):
            await overlay.networks.update(
                BY_CONTROLLER, BLUE, lambda network: replace(network, pools=(pool("10.40.0.0/24"),))
            )


async def test_hosts_and_reservations_share_a_pool_until_it_is_full(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay, of=pool("10.32.0.0/28", 29))
        await make_host(overlay, 1)
        held = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        given = [await reserved(overlay, ReservationName(f"n{number}")) for number in range(6)]
        assert [first for (first,) in given] == [f"10.32.0.{number}" for number in range(9, 15)]
        with pytest.raises(Exhausted, match="all 2 blocks"):
            await reserved(overlay, WEB)
        with pytest.raises(Exhausted, match="all 2 blocks"):
            await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [held.cidr])


async def test_who_claims_a_reservation_may_have_its_address(tmp_path: Path) -> None:
    async with a_network(tmp_path) as (store, [overlay]):
        await reserved(overlay, WEB)
        reservation = overlay.reservations.get(BLUE, WEB)
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        endpoint = with_address(make_endpoint(block, 2), reservation)
        (refusal,) = (await overlay.endpoints.publish(BY_CONTROLLER, H1, [endpoint], [])).result
        assert "which the container has not claimed" in str(refusal.error)
        claimed = (await overlay.reservations.claim(BY_CONTROLLER, BLUE, WEB, holder(endpoint))).result
        assert claimed.holder == holder(endpoint)
        await overlay.endpoints.publish(BY_CONTROLLER, H1, [endpoint], [])
        before = await stored(store)
        await overlay.reservations.claim(BY_CONTROLLER, BLUE, WEB, holder(endpoint))
        assert await stored(store) == before
        with pytest.raises(InUse, match="container h1-2 on host h1 holds reservation web"):
            await overlay.reservations.delete(BY_CONTROLLER, BLUE, WEB)
        await overlay.endpoints.replace(BY_CONTROLLER, H1, [])
        assert overlay.reservations.get(BLUE, WEB) == reservation
        await overlay.reservations.delete(BY_CONTROLLER, BLUE, WEB)


async def test_the_last_claim_wins_and_the_former_endpoint_goes_at_once(tmp_path: Path) -> None:
    async with a_network(tmp_path, 2) as (store, [here, there]):
        await reserved(here, WEB)
        reservation = here.reservations.get(BLUE, WEB)
        blocks = [(await here.blocks.acquire(BY_CONTROLLER, BLUE, host, [])).result for host in (H1, H2)]
        first, second = (with_address(make_endpoint(block, 2), reservation) for block in blocks)
        other = make_endpoint(blocks[0], 3)
        await here.reservations.claim(BY_CONTROLLER, BLUE, WEB, holder(first))
        await here.endpoints.publish(BY_CONTROLLER, H1, [first, other], [])
        await there.mirror.reached(here.mirror.revision)
        moved = await there.reservations.claim(BY_CONTROLLER, BLUE, WEB, holder(second))
        cluster = await whole_cluster(store)
        assert set(cluster.endpoints.values()) == {other}
        await here.mirror.reached(moved.revision)
        (refusal,) = (await here.endpoints.publish(BY_CONTROLLER, H1, [first], [])).result
        assert "another one has claimed since" in str(refusal.error)
        assert (await here.reservations.release(BY_CONTROLLER, BLUE, WEB, holder(first))).result.holder == holder(
            second
        )
        await there.endpoints.publish(BY_CONTROLLER, H2, [second], [])
        await there.reservations.release(BY_CONTROLLER, BLUE, WEB)
        cluster = await whole_cluster(store)
        assert set(cluster.endpoints.values()) == {other}
        assert cluster.reservations[BLUE, WEB].holder is None


async def test_an_interface_holds_one_reservation_of_a_family(tmp_path: Path) -> None:
    async with a_network(tmp_path) as (_, [overlay]):
        await reserved(overlay, WEB)
        await reserved(overlay, DB)
        one = Holder(H1, ContainerId("c"), InterfaceName("eth0"))
        await overlay.reservations.claim(BY_CONTROLLER, BLUE, WEB, one)
        with pytest.raises(AlreadyExists, match="holds reservation web already"):
            await overlay.reservations.claim(BY_CONTROLLER, BLUE, DB, one)
        await overlay.reservations.claim(BY_CONTROLLER, BLUE, DB, replace(one, interface=InterfaceName("eth1")))


async def test_a_shared_address_floats_among_its_members_and_their_endpoints_stay(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, [here, there]):
        await here.networks.create(BY_CONTROLLER, BLUE, (pool("10.32.0.0/24", 28),), Topology.SWITCHED, None)
        for number in (1, 2):
            await make_host(here, number)
        made = (await here.reservations.create(BY_CONTROLLER, BLUE, WEB, shared=True)).result
        blocks = [(await here.blocks.acquire(BY_CONTROLLER, BLUE, host, [])).result for host in (H1, H2)]
        first, second = (replace(make_endpoint(blocks[n], 2 + n), shares=(WEB,)) for n in (0, 1))
        stranger = make_endpoint(blocks[0], 5)
        (refusal,) = (await here.endpoints.publish(BY_CONTROLLER, H1, [with_address(first, made)], [])).result
        assert isinstance(refusal.error, AlreadyExists)
        with pytest.raises(InvalidValue, match="is no member of reservation web"):
            await here.reservations.claim(BY_CONTROLLER, BLUE, WEB, holder(first))
        await here.endpoints.publish(BY_CONTROLLER, H1, [first, stranger], [])
        await here.endpoints.publish(BY_CONTROLLER, H2, [second], [])
        await here.hosts.update(BY_CONTROLLER, H1, HostState.DRAINING)
        with pytest.raises(InvalidValue, match="is no member"):
            await here.reservations.claim(BY_CONTROLLER, BLUE, WEB, holder(stranger))
        for overlay, member in ((here, first), (there, second), (here, first)):
            await overlay.mirror.reached(max(here.mirror.revision, there.mirror.revision))
            await overlay.reservations.claim(BY_CONTROLLER, BLUE, WEB, holder(member))
            cluster = await whole_cluster(store)
            assert cluster.reservations[BLUE, WEB].holder == holder(member)
            assert set(cluster.endpoints.values()) == {first, second, stranger}
        await here.endpoints.publish(BY_CONTROLLER, H1, [], [first.key])
        assert (await whole_cluster(store)).reservations[BLUE, WEB] == made


async def test_a_shared_reservation_needs_a_segment_and_has_no_mac(tmp_path: Path) -> None:
    async with a_network(tmp_path) as (_, [overlay]):
        with pytest.raises(InvalidValue) as caught:
            await overlay.reservations.create(BY_CONTROLLER, BLUE, WEB, shared=True)
        assert caught.value.field == "shared"
    with pytest.raises(InvalidValue) as caught:
        Reservation(BLUE, WEB, (ip("10.32.0.5"),), MacAddress("02:00:00:00:00:05"), shared=True)
    assert caught.value.field == "mac"


@pytest.mark.parametrize("attempt", range(5))
async def test_who_goes_at_the_moment_of_its_claim_does_not_keep_a_shared_address(tmp_path: Path, attempt: int) -> None:
    async with controllers(tmp_path, 2) as (store, [here, there]):
        await here.networks.create(BY_CONTROLLER, BLUE, (pool("10.32.0.0/24", 28),), Topology.SWITCHED, None)
        await make_host(here, 1)
        await here.reservations.create(BY_CONTROLLER, BLUE, WEB, shared=True)
        block = (await here.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        member = replace(make_endpoint(block, 2), shares=(WEB,))
        await here.endpoints.publish(BY_CONTROLLER, H1, [member], [])
        await there.mirror.reached(here.mirror.revision)
        one, other = (here, there) if attempt % 2 else (there, here)
        await asyncio.gather(
            one.reservations.claim(BY_CONTROLLER, BLUE, WEB, holder(member)),
            other.endpoints.publish(BY_CONTROLLER, H1, [], [member.key]),
            return_exceptions=True,
        )
        cluster = await whole_cluster(store)
        assert cluster.endpoints == {}
        assert cluster.reservations[BLUE, WEB].holder is None


async def test_a_host_that_never_registered_claims_nothing(tmp_path: Path) -> None:
    async with a_network(tmp_path) as (_, [overlay]):
        await reserved(overlay, WEB)
        with pytest.raises(NotFound):
            await overlay.reservations.claim(
                BY_CONTROLLER, BLUE, WEB, Holder(HostId("nobody"), ContainerId("c"), InterfaceName("eth0"))
            )


async def test_many_reservations_at_once_share_units_and_no_address(tmp_path: Path) -> None:
    async with a_network(tmp_path, 2) as (store, both):
        names = [ReservationName(f"n{number}") for number in range(60)]
        made = await asyncio.gather(
            *(both[n % 2].reservations.create(BY_CONTROLLER, BLUE, name) for n, name in enumerate(names))
        )
        assert len({address for each in made for address in each.result.addresses}) == 60
        cluster, items = await whole_cluster(store), await stored(store)
        assert len(cluster.reservations) == 60
        assert len([key for key in items if "/withheld/" in key]) <= 8
        assert len([key for key in items if "/addresses/" in key]) == 60


@pytest.mark.parametrize("attempt", range(10))
async def test_a_unit_is_a_hosts_or_withheld_whoever_is_first(tmp_path: Path, attempt: int) -> None:
    async with a_network(tmp_path, 2) as (store, [here, there]):
        acquire = here.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        reserve = there.reservations.create(BY_CONTROLLER, BLUE, WEB, [ip("10.32.0.5")])
        outcomes = await asyncio.gather(
            *([acquire, reserve] if attempt % 2 else [reserve, acquire]), return_exceptions=True
        )
        assert {type(outcome).__name__ for outcome in outcomes} <= {"Written", "InUse"}
        assert_apart(await whole_cluster(store))


@pytest.mark.parametrize("attempt", range(10))
async def test_a_unit_stays_withheld_for_one_that_comes_as_the_last_one_goes(tmp_path: Path, attempt: int) -> None:
    async with a_network(tmp_path, 2) as (store, [here, there]):
        await reserved(here, WEB, "10.32.0.5")
        await there.mirror.reached(here.mirror.revision)
        going = here.reservations.delete(BY_CONTROLLER, BLUE, WEB)
        coming = there.reservations.create(BY_CONTROLLER, BLUE, DB, [ip("10.32.0.6")])
        order = [going, coming] if attempt % 2 else [coming, going]
        outcomes = await asyncio.gather(*order, return_exceptions=True)
        cluster, items = await whole_cluster(store), await stored(store)
        assert {type(outcome).__name__ for outcome in outcomes} <= {"Written", "InUse"}
        withheld = items[keys.withheld(BLUE, IPv4Network("10.32.0.0/28"))]
        assert (withheld.lease is None) == bool(cluster.reservations)


@pytest.mark.parametrize("attempt", range(10))
async def test_a_claim_leaves_no_endpoint_that_its_former_holder_publishes_meanwhile(
    tmp_path: Path, attempt: int
) -> None:
    async with a_network(tmp_path, 2) as (store, [here, there]):
        await reserved(here, WEB)
        reservation = here.reservations.get(BLUE, WEB)
        blocks = [(await here.blocks.acquire(BY_CONTROLLER, BLUE, host, [])).result for host in (H1, H2)]
        first, second = (with_address(make_endpoint(block, 2), reservation) for block in blocks)
        await here.reservations.claim(BY_CONTROLLER, BLUE, WEB, holder(first))
        await there.mirror.reached(here.mirror.revision)
        publish = here.endpoints.publish(BY_CONTROLLER, H1, [first], [])
        claim = there.reservations.claim(BY_CONTROLLER, BLUE, WEB, holder(second))
        await asyncio.gather(*([publish, claim] if attempt % 2 else [claim, publish]), return_exceptions=True)
        assert (await whole_cluster(store)).endpoints == {}


async def test_reservations_are_told_to_hosts_of_the_network(tmp_path: Path) -> None:
    async with a_network(tmp_path) as (_, [overlay]):
        await reserved(overlay, WEB)
        await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        with overlay.feeds.open(H1, "i1") as feed:
            first = await anext(feed.messages(None))
        records = getattr(first, "puts", ())
        assert overlay.reservations.get(BLUE, WEB) in records
        assert any(isinstance(record, Block) for record in records)
