"""STATUS: what an attachment would need, and what is missing."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from overlayd.agent.attach.addressing import Addressing
from overlayd.agent.cni.readiness import Readiness
from overlayd.agent.holdings.blocks import HeldBlocks
from overlayd.agent.holdings.publication import Publication
from overlayd.agent.holdings.reservations import HeldReservations
from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from overlayd.agent.records.held_addresses import HeldAddresses
from overlayd.agent.records.quarantine import RestingAddresses
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import Unavailable
from overlayd.model.host import HostState
from overlayd.model.ids import NetworkName, Revision
from overlayd.model.network import Network, NetworkState
from overlayd.wire import records
from overlayd.wire.cni.error import CniError, Code
from overlayd.wire.feed import InSync, Snapshot
from tests.support.agents.loopback import (
    Answer,
    Request,
    answer,
    client_of,
    controller,
    following,
    in_sync,
    problem,
    registered,
)
from tests.support.controllers import clusters

pytestmark = pytest.mark.anyio

BLUE = NetworkName("blue")
SMALL = clusters.network(cidr="10.32.0.0/24", block_length=29)
KNOWN = clusters.cluster([SMALL, clusters.host(1), clusters.block(1, "10.32.0.0/29")])
STRANGER = clusters.cluster([clusters.host(1)])
FULL = [clusters.endpoint(1, f"c{number}", f"10.32.0.{number}") for number in range(2, 8)]
"""All that this host's block has for containers: two of its addresses nobody gets."""


@dataclass
class Host:
    """A host in a cluster, as a STATUS looks at it."""

    readiness: Readiness
    addressing: Addressing

    async def refusal(self) -> tuple[Code, str] | None:
        """Return code and sentence of what a STATUS is refused with; None when it succeeds."""
        try:
            await self.readiness.check(BLUE)
        except CniError as error:
            return error.code, error.msg
        return None


def serving(network: Network = SMALL, free: int = 3) -> Callable[[Request], Answer | None]:
    """Answer as a controller that knows a network, with so many free blocks."""

    def respond(request: Request) -> Answer | None:
        if request.path == "/v1/networks/blue":
            return answer(records.encode(network))
        if request.path == "/v1/networks/blue/capacity":
            return answer({"families": [{"family": 4, "total": 32, "taken": 32 - free, "level": None}]})
        return registered(request)

    return respond


def away(request: Request) -> Answer | None:
    """Answer as a controller that has lost its store."""
    return registered(request) or (
        None if request.path == "/v1/feed" else problem(503, "unavailable", "the store is away")
    )


@asynccontextmanager
async def host(
    directory: Path,
    cluster: Cluster,
    respond: Callable[[Request], Answer | None],
    *endpoints: Endpoint,
    devices: str | None = None,
) -> AsyncIterator[Host]:
    async def ensure(name: NetworkName) -> None:
        if devices:
            raise Unavailable(f"network {name} is not in force on this host: {devices}")

    attached = AttachmentRecords(directory)
    for number, endpoint in enumerate(endpoints):
        attached.put(Attachment(endpoint, (4, number)))
    async with controller() as server:
        server.respond = respond
        async with following(server) as feed, client_of(server) as client:
            stream = await server.feeds.get()
            await stream.send(Snapshot(Revision(1), cluster.records), InSync(Revision(1)))
            await in_sync(feed)
            blocks = HeldBlocks(clusters.HERE, client, feed, attached)
            published = Publication(client, feed, attached, lambda _: None)
            reservations = HeldReservations(client, feed, attached, published)
            addressing = Addressing(
                attached,
                blocks,
                reservations,
                RestingAddresses(directory / "resting", lambda: 0.0),
                HeldAddresses(directory / "held"),
            )
            yield Host(Readiness(blocks, addressing, ensure, client), addressing)


async def test_a_host_with_a_free_address_is_ready_whatever_the_controllers_do(tmp_path: Path) -> None:
    async with host(tmp_path, KNOWN, away) as here:
        assert await here.refusal() is None


async def test_a_host_without_a_block_is_ready_when_there_is_one_to_be_had(tmp_path: Path) -> None:
    async with host(tmp_path, STRANGER, serving()) as here:
        assert await here.refusal() is None


async def test_a_full_host_is_ready_when_there_is_another_block_to_be_had(tmp_path: Path) -> None:
    async with host(tmp_path, KNOWN, serving(free=1), *FULL) as here:
        assert await here.refusal() is None


async def test_without_a_block_it_takes_a_controller(tmp_path: Path) -> None:
    async with host(tmp_path, STRANGER, away) as here:
        refusal = await here.refusal()
        assert refusal is not None
        assert refusal[0] is Code.NOT_AVAILABLE
        assert refusal[1].startswith("this host has no block of network blue: no controller can do it now")


async def test_a_network_that_does_not_exist_is_not_available(tmp_path: Path) -> None:
    def respond(request: Request) -> Answer | None:
        if request.path.startswith("/v1/networks/"):
            return problem(404, "not-found", "there is no network blue")
        return registered(request)

    async with host(tmp_path, STRANGER, respond) as here:
        assert await here.refusal() == (Code.NOT_AVAILABLE, "there is no network blue")


@pytest.mark.parametrize("known", [True, False])
async def test_a_network_that_is_being_deleted_is_not_available(tmp_path: Path, *, known: bool) -> None:
    going = replace(SMALL, state=NetworkState.DELETING)
    cluster = KNOWN.changed(Revision(1), [going]) if known else STRANGER
    async with host(tmp_path, cluster, serving(going)) as here:
        assert await here.refusal() == (Code.NOT_AVAILABLE, "network blue is being deleted")


async def test_a_host_that_is_to_get_nothing_new_is_not_available(tmp_path: Path) -> None:
    draining = KNOWN.changed(Revision(1), [replace(clusters.host(1), state=HostState.DRAINING)])
    async with host(tmp_path, draining, serving()) as here:
        refusal = await here.refusal()
        assert refusal is not None
        assert refusal[0] is Code.NOT_AVAILABLE
        assert "host node-1 is draining" in refusal[1]


@pytest.mark.parametrize(("cluster", "endpoints"), [(KNOWN, FULL), (STRANGER, [])])
async def test_an_exhausted_network_limits(tmp_path: Path, cluster: Cluster, endpoints: list[Endpoint]) -> None:
    async with host(tmp_path, cluster, serving(free=0), *endpoints) as here:
        assert await here.refusal() == (Code.LIMITED, "network blue has no free IPv4 address for this host")


async def test_a_full_host_is_limited_while_no_controller_answers(tmp_path: Path) -> None:
    async with host(tmp_path, KNOWN, away, *FULL) as here:
        refusal = await here.refusal()
        assert refusal is not None
        assert refusal[0] is Code.LIMITED
        assert refusal[1].startswith("this host has no free IPv4 address of network blue, and no controller gives it")


async def test_a_resting_address_counts_while_no_controller_answers(tmp_path: Path) -> None:
    *most, last = FULL
    async with host(tmp_path, KNOWN, away, *most) as here:
        here.addressing.freed(last)
        assert await here.refusal() is None


async def test_a_resting_address_is_none_where_the_network_is_exhausted(tmp_path: Path) -> None:
    *most, last = FULL
    async with host(tmp_path, KNOWN, serving(free=0), *most) as here:
        here.addressing.freed(last)
        assert await here.refusal() == (Code.LIMITED, "network blue has no free IPv4 address for this host")


async def test_a_network_that_is_not_whole_on_this_host_limits(tmp_path: Path) -> None:
    async with host(tmp_path, KNOWN, serving(), devices="UDP port 4789 is taken") as here:
        reason = "network blue is not in force on this host: UDP port 4789 is taken"
        assert await here.refusal() == (Code.LIMITED, reason)
