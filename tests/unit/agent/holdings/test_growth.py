"""Many attachments at once for which this host's blocks are not enough: they share each block that it gets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from overlayd.agent.attach.addressing import Addressing
from overlayd.agent.attach.request import AttachmentName, AttachRequest
from overlayd.agent.holdings.blocks import HeldBlocks
from overlayd.agent.holdings.publication import Publication
from overlayd.agent.holdings.reservations import HeldReservations
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.records.held_addresses import HeldAddresses
from overlayd.agent.records.quarantine import RestingAddresses
from overlayd.ipam import addresses
from overlayd.model.address import IpAddress
from overlayd.model.block import Block
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import Exhausted, OverlayError, Unavailable
from overlayd.model.ids import ContainerId, InterfaceName, NetworkName, Revision
from overlayd.wire import records as forms
from overlayd.wire.feed import Delta, InSync, Snapshot
from tests.support.agents.loopback import (
    Answer,
    Server,
    answer,
    client_of,
    controller,
    following,
    in_sync,
    problem,
    registered,
    running,
)
from tests.support.agents.loopback import Request as Call
from tests.support.controllers import clusters

pytestmark = pytest.mark.anyio

BLUE = NetworkName("blue")
NETWORK = clusters.network(block_length=28)
FIRST = clusters.block(1, "10.32.0.0/28")
BLOCKS = "/v1/networks/blue/blocks"


class Growing:
    """Host 1 with one small block, and controllers that have so many more for it; each is brought by the feed."""

    def __init__(self, server: Server, blocks: HeldBlocks, addressing: Addressing, left: int) -> None:
        self.asked = 0
        self.refusal = problem(409, "exhausted", "all blocks are taken")
        self._left = left
        self._given = {FIRST.key: FIRST}
        self._new = asyncio.Queue[Block]()
        self._server = server
        self._blocks = blocks
        self._addressing = addressing
        server.respond = self._respond

    @property
    def rooms(self) -> list[int]:
        """How many containers find an address in each block that it got, the first one included."""
        return [addresses.usable(NETWORK, block) for block in self._given.values()]

    def _respond(self, call: Call) -> Answer | None:
        if call.path != BLOCKS:
            return registered(call)
        self.asked += 1
        if not self._left:
            return self.refusal
        self._left -= 1
        block = clusters.block(1, f"10.32.{len(self._given)}.0/28")
        self._given[block.key] = block
        self._new.put_nowait(block)
        return answer(forms.encode(block))

    async def bring(self) -> None:
        """Let the feed bring each block some time after the answer."""
        stream = await self._server.feeds.get()
        known = (clusters.host(1), NETWORK, FIRST)
        await stream.send(Snapshot(Revision(1), known), InSync(Revision(1)))
        while True:
            block = await self._new.get()
            await stream.send(Delta(Revision(len(self._given)), (block,), ()))

    @asynccontextmanager
    async def attaching(self, name: str) -> AsyncIterator[Endpoint]:
        container, interface = ContainerId(name), InterfaceName("eth0")
        request = AttachRequest(AttachmentName(BLUE, container, interface), f"/run/netns/{name}")
        async with (
            self._blocks.attaching(BLUE) as network,
            self._addressing.chosen(network, request) as endpoint,
        ):
            yield endpoint

    async def attach_at_once(self, count: int) -> tuple[list[IpAddress], list[OverlayError]]:
        """Choose for so many at the same time, none of which ends before the others; return addresses and refusals."""
        async with AsyncExitStack() as attaching:
            chosen = await asyncio.gather(
                *(attaching.enter_async_context(self.attaching(f"c{number}")) for number in range(count)),
                return_exceptions=True,
            )
        refused = [each for each in chosen if isinstance(each, OverlayError)]
        got = [address for each in chosen if isinstance(each, Endpoint) for address in each.addresses]
        assert len(got) + len(refused) == count
        return got, refused


@asynccontextmanager
async def growing(directory: Path, left: int) -> AsyncIterator[Growing]:
    records = AttachmentRecords(directory)
    async with controller() as server, following(server) as feed, client_of(server) as client:
        blocks = HeldBlocks(clusters.HERE, client, feed, records)
        reservations = HeldReservations(client, feed, records, Publication(client, feed, records, lambda _: None))
        made = Growing(
            server,
            blocks,
            Addressing(
                records,
                blocks,
                reservations,
                RestingAddresses(directory / "resting", lambda: 0.0),
                HeldAddresses(directory / "held"),
            ),
            left,
        )
        async with running(made.bring()):
            await in_sync(feed)
            yield made


async def test_two_hundred_at_once_get_the_blocks_that_they_need_and_no_more(tmp_path: Path) -> None:
    async with growing(tmp_path, left=1000) as host:
        got, refused = await host.attach_at_once(200)
        assert refused == []
        assert len(set(got)) == 200
        assert sum(host.rooms[:-1]) < 200 <= sum(host.rooms)
        assert host.asked == len(host.rooms) - 1


async def test_when_the_network_is_full_every_address_is_given_out_and_the_rest_refused(tmp_path: Path) -> None:
    async with growing(tmp_path, left=3) as host:
        got, refused = await host.attach_at_once(200)
        assert len(set(got)) == sum(host.rooms)
        assert all(isinstance(error, Exhausted) and "all blocks are taken" in str(error) for error in refused)
        assert host.asked == 4, "those who wait for one more share the refusal"


async def test_those_who_wait_share_that_no_controller_can_do_it(tmp_path: Path) -> None:
    async with growing(tmp_path, left=0) as host:
        host.refusal = problem(503, "unavailable", "not now")
        got, refused = await host.attach_at_once(50)
        assert len(got) == sum(host.rooms)
        assert all(isinstance(error, Unavailable) for error in refused)
        assert host.asked == 1


async def test_one_who_gives_up_while_it_asks_for_all_leaves_that_to_the_next(tmp_path: Path) -> None:
    async with growing(tmp_path, left=1) as host, AsyncExitStack() as attaching:
        for number in range(sum(host.rooms)):
            await attaching.enter_async_context(host.attaching(f"c{number}"))
        waiting = [
            asyncio.ensure_future(attaching.enter_async_context(host.attaching(f"late{number}"))) for number in range(3)
        ]
        await asyncio.sleep(0)
        waiting[0].cancel()
        got = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(got[0], asyncio.CancelledError)
        assert {str(each.addresses[0]) for each in got[1:] if isinstance(each, Endpoint)} == {"10.32.1.1", "10.32.1.2"}
