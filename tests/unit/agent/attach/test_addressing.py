"""Which addresses an attachment gets: one of each family, of this host's blocks or of a reservation."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from overlayd.agent.attach.addressing import Addressing
from overlayd.agent.attach.request import AttachmentName, AttachRequest
from overlayd.agent.holdings.blocks import HeldBlocks
from overlayd.agent.holdings.publication import Publication
from overlayd.agent.holdings.reservations import HeldReservations
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.records.held_addresses import HeldAddresses
from overlayd.agent.records.quarantine import QUARANTINE_SECONDS, RestingAddresses
from overlayd.agent.runtime.signals import Changes
from overlayd.model.address import IpAddress
from overlayd.model.cluster import Record
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import AlreadyExists, Exhausted, InvalidValue
from overlayd.model.ids import (
    ContainerId,
    InterfaceName,
    MacAddress,
    NetworkName,
    ReservationName,
    Revision,
    is_own_mac,
)
from overlayd.model.network import Topology
from overlayd.wire.feed import InSync, Snapshot
from tests.support.agents.loopback import (
    Answer,
    Server,
    answer,
    client_of,
    controller,
    following,
    in_sync,
    registered,
    running,
)
from tests.support.agents.loopback import Request as Call
from tests.support.controllers import clusters

pytestmark = pytest.mark.anyio

BLUE = NetworkName("blue")
MAC = MacAddress("02:00:00:00:00:50")


class Host:
    """The addressing of host 1 in a dual-stack network, and the time by which its addresses rest."""

    def __init__(self, addressing: Addressing, blocks: HeldBlocks) -> None:
        self.now = 0.0
        self.addressing = addressing
        self._blocks = blocks

    @asynccontextmanager
    async def attaching(self, name: str, *wanted: str, **more: object) -> AsyncIterator[Endpoint]:
        request = AttachRequest(
            AttachmentName(BLUE, ContainerId(name), InterfaceName("eth0")),
            f"/run/netns/{name}",
            addresses=tuple(map(ip_address, wanted)),
        )
        asked = replace(request, **more)  # type: ignore[arg-type]
        async with self.addressing.chosen(self._blocks.network(BLUE), asked) as endpoint:
            yield endpoint

    async def addresses(self, name: str, *wanted: str, **more: object) -> list[str]:
        async with self.attaching(name, *wanted, **more) as endpoint:
            return [str(address) for address in endpoint.addresses]


def serving(server: Server) -> None:
    """Take every claim and publication."""

    def respond(call: Call) -> Answer | None:
        if call.path.startswith("/v1/hosts/") and call.path.endswith("/endpoints"):
            return Answer(204, b"")
        if call.path.endswith("/claim"):
            return answer({"revision": 1})
        return registered(call)

    server.respond = respond


@asynccontextmanager
async def host(directory: Path, *more: Record) -> AsyncIterator[Host]:
    records = AttachmentRecords(directory)
    known = clusters.dual(Topology.ROUTED).changed(Revision(1), more)
    async with controller() as server:
        serving(server)
        async with following(server) as feed, client_of(server) as client:
            publication = Publication(client, feed, records, lambda _: None)
            async with running(publication.run(Changes())):
                stream = await server.feeds.get()
                await stream.send(Snapshot(Revision(1), known.records), InSync(Revision(1)))
                await in_sync(feed)
                blocks = HeldBlocks(clusters.HERE, client, feed, records)
                reservations = HeldReservations(client, feed, records, publication)
                made: list[Host] = []
                resting = RestingAddresses(directory / "resting", lambda: made[0].now)
                held = HeldAddresses(directory / "held")
                made.append(Host(Addressing(records, blocks, reservations, resting, held), blocks))
                yield made[0]


async def test_an_attachment_gets_an_address_of_each_family(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        assert await here.addresses("web") == ["10.32.0.2", "fd00:32::2"]


async def test_what_one_attachment_has_chosen_no_other_gets(tmp_path: Path) -> None:
    async with host(tmp_path) as here, AsyncExitStack() as attaching:
        chosen = [await attaching.enter_async_context(here.attaching(f"c{number}")) for number in range(20)]
        assert len({address for endpoint in chosen for address in endpoint.addresses}) == 40
        with pytest.raises(AlreadyExists):
            await here.addresses("late", str(chosen[7].addresses[1]))


async def test_a_mac_that_another_one_has_in_the_network_is_refused(tmp_path: Path) -> None:
    there = clusters.endpoint(2, "db", "10.32.1.9")
    reserved = replace(clusters.reservation("web", "10.32.9.9", there), mac=MacAddress("02:00:00:00:00:51"))
    async with host(tmp_path, there, reserved) as here, here.attaching("first", mac=MAC):
        for mac, holder in (
            (MAC, "container first on this host"),
            (there.mac, "container db on host node-2"),
            (reserved.mac, "reservation web"),
        ):
            with pytest.raises(AlreadyExists, match=f"is the MAC of {holder}") as refused:
                await here.addresses("second", mac=mac)
            assert refused.value.field == "mac"
        async with here.attaching("second") as endpoint:
            assert not is_own_mac(endpoint.mac)
    async with host(tmp_path / "other", there) as here, here.attaching("first", mac=MAC) as endpoint:
        assert endpoint.mac == MAC, "it is free when nobody has it"


async def test_a_wish_for_one_family_leaves_the_other_to_the_host(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        assert await here.addresses("web", "fd00:32::77") == ["10.32.0.2", "fd00:32::77"]
        assert await here.addresses("db", "10.32.0.77") == ["10.32.0.77", "fd00:32::2"]


async def test_an_address_rests_for_itself_and_not_for_its_family(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        async with here.attaching("web", "10.32.0.3", "fd00:32::3") as gone:
            pass
        here.addressing.freed(gone)
        got = [await here.addresses(f"c{number}") for number in range(2)]
        assert got == [["10.32.0.2", "fd00:32::2"], ["10.32.0.4", "fd00:32::4"]]
        here.now = QUARANTINE_SECONDS + 1
        assert await here.addresses("insists", "10.32.0.3") == ["10.32.0.3", "fd00:32::5"]


async def test_a_reservation_of_one_family_brings_its_address_and_mac(tmp_path: Path) -> None:
    holder = clusters.endpoint(1, "web", "10.32.9.9")
    held = replace(clusters.reservation("db", "10.32.9.9", holder), mac=MAC)
    async with host(tmp_path, held) as here:
        async with here.attaching("web", reservations=(ReservationName("db"),)) as endpoint:
            assert [str(address) for address in endpoint.addresses] == ["10.32.9.9", "fd00:32::2"]
            assert endpoint.mac == MAC
        assert await here.addresses("web", "10.32.9.9") == ["10.32.9.9", "fd00:32::3"], "it is claimed by its address"
        async with here.attaching("web", reservations=(ReservationName("db"),), mac=holder.mac) as endpoint:
            assert endpoint.mac == holder.mac, "a MAC that is asked for comes first"


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("10.32.1.5", "is in no block of network blue on this host"),
        ("10.32.0.1", "is reserved"),
        ("fd00:32:0:1::5", "is in no block of network blue on this host"),
    ],
)
async def test_an_address_that_this_host_cannot_give_out_is_refused(tmp_path: Path, wanted: str, reason: str) -> None:
    async with host(tmp_path) as here:
        with pytest.raises(InvalidValue, match=reason):
            await here.addresses("web", wanted)


async def test_an_address_of_a_family_that_the_network_does_not_have_is_refused(tmp_path: Path) -> None:
    async with host(tmp_path, clusters.network()) as here:
        with pytest.raises(InvalidValue, match="network blue has no IPv6 range"):
            await here.addresses("web", "fd00:32::5")


def between(first: str, last: str) -> tuple[IpAddress, IpAddress]:
    return ip_address(first), ip_address(last)


async def test_an_address_comes_of_the_ranges_that_are_asked_for(tmp_path: Path) -> None:
    ranges = (between("10.32.0.9", "10.32.0.10"), between("10.32.5.0", "10.32.5.255"))
    async with host(tmp_path) as here, AsyncExitStack() as attaching:
        for expected in ("10.32.0.9", "10.32.0.10"):
            endpoint = await attaching.enter_async_context(here.attaching(expected, ranges=ranges))
            assert str(endpoint.addresses[0]) == expected, "the other family is left to the host"
        with pytest.raises(Exhausted, match="in the ranges that are asked for"):
            await here.addresses("late", ranges=ranges)
        assert await here.addresses("insists", "10.32.0.77", ranges=ranges) == ["10.32.0.77", "fd00:32::4"]


async def test_the_whole_of_the_network_is_no_restriction(tmp_path: Path) -> None:
    async with host(tmp_path) as here:
        assert await here.addresses("web", ranges=(between("10.32.0.0", "10.32.255.255"),)) == [
            "10.32.0.2",
            "fd00:32::2",
        ]


@pytest.mark.parametrize("last", ["10.33.0.9", "10.32.0.9"])
async def test_a_range_outside_the_network_is_refused(tmp_path: Path, last: str) -> None:
    async with host(tmp_path) as here:
        with pytest.raises(InvalidValue, match="lies in no range of network blue") as caught:
            await here.addresses("web", ranges=(between("10.31.255.255", last),))
        assert caught.value.field == "ranges"


async def test_an_address_beside_a_reservation_of_its_family_is_refused(tmp_path: Path) -> None:
    held = clusters.reservation("db", "10.32.9.9", clusters.endpoint(1, "web", "10.32.9.9"))
    async with host(tmp_path, held) as here:
        with pytest.raises(InvalidValue, match=r"10\.32\.0\.5 is not 10\.32\.9\.9"):
            await here.addresses("web", "10.32.0.5", reservations=(ReservationName("db"),))


async def test_a_shared_reservation_leaves_the_address_to_the_host(tmp_path: Path) -> None:
    shared = replace(clusters.reservation("vip", "10.32.9.9"), shared=True)
    async with host(tmp_path, shared) as here:
        async with here.attaching("web", reservations=(ReservationName("vip"),)) as endpoint:
            assert [str(address) for address in endpoint.addresses] == ["10.32.0.2", "fd00:32::2"]
            assert endpoint.shares == ("vip",)
            assert here.addressing.shared(endpoint) == frozenset(shared.addresses)
        assert await here.addresses("db", "10.32.0.5", reservations=(ReservationName("vip"),)) == [
            "10.32.0.5",
            "fd00:32::3",
        ]
        with pytest.raises(InvalidValue, match="ask for that by its name"):
            await here.addresses("late", "10.32.9.9")
