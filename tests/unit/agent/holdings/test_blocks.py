"""The blocks of this host: asked for when needed, there when the feed says so, given back when their network goes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.holdings.blocks import HeldBlocks
from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from overlayd.agent.runtime.signals import Changes
from overlayd.model.address import Family
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.errors import InUse, NotFound, Unavailable
from overlayd.model.host import HostState
from overlayd.model.ids import NetworkName, Revision
from overlayd.model.network import NetworkState
from overlayd.wire import records as forms
from overlayd.wire.feed import Delta, InSync, Snapshot
from tests.support.agents.loopback import (
    Answer,
    Request,
    Server,
    answer,
    at,
    client_of,
    controller,
    following,
    in_sync,
    problem,
    registered,
    request_to,
    running,
    unused_url,
)
from tests.support.controllers import clusters

pytestmark = pytest.mark.anyio

NAME = NetworkName("blue")
BLUE, BLOCK = clusters.network("blue"), clusters.block(1, "10.32.0.0/24")
FURTHER = clusters.block(1, "10.32.7.0/24")
DELETING = replace(BLUE, state=NetworkState.DELETING)
WEB = Attachment(clusters.endpoint(1, "web", "10.32.0.2"), (4, 1))
GREEN, OF_GREEN = clusters.network("green"), clusters.block(1, "10.32.0.0/24", "green")
GREEN_DELETING = replace(GREEN, state=NetworkState.DELETING)
PATH_OF_GREEN = "/v1/networks/green/blocks/10.32.0.0/24"
BLOCKS, OF_BLOCK = "/v1/networks/blue/blocks", "/v1/networks/blue/blocks/10.32.0.0/24"


@asynccontextmanager
async def blocks_of(server: Server, feed: ClusterFeed, records: AttachmentRecords) -> AsyncIterator[HeldBlocks]:
    async with client_of(server) as client:
        yield HeldBlocks(clusters.HERE, client, feed, records)


def giving(server: Server, *replies: Answer) -> None:
    """Let the server answer requests for blocks with these, the last one again and again."""
    left = list(replies)

    def respond(request: Request) -> Answer | None:
        if "/blocks" in request.path:
            return left.pop(0) if len(left) > 1 else left[0]
        return registered(request)

    server.respond = respond


def known(*records: Record) -> tuple[Snapshot, InSync]:
    return Snapshot(Revision(1), (clusters.host(1), *records)), InSync(Revision(1))


@pytest.fixture
def records(tmp_path: Path) -> AttachmentRecords:
    return AttachmentRecords(tmp_path)


async def test_a_host_with_a_block_needs_no_controller_to_attach(records: AttachmentRecords) -> None:
    feed_of_before = clusters.cluster([clusters.host(1), BLUE, BLOCK])
    gone = await unused_url()
    async with (
        following(gone, cached=feed_of_before) as feed,
        client_of(gone) as client,
        HeldBlocks(clusters.HERE, client, feed, records).attaching(NAME) as network,
    ):
        assert network == BLUE


async def test_a_first_attachment_waits_until_the_feed_brings_network_and_block(records: AttachmentRecords) -> None:
    async with controller() as server, following(server) as feed, blocks_of(server, feed, records) as blocks:
        giving(server, answer(forms.encode(BLOCK)))
        stream = await server.feeds.get()
        await stream.send(*known())
        await in_sync(feed)
        async with asyncio.TaskGroup() as tasks:
            attached = tasks.create_task(_attached(blocks))
            assert (await request_to(server, "POST", BLOCKS)).body == {"host": "host-1", "family": 4, "held": []}
            await stream.send(Delta(Revision(2), (clusters.network("green"),), ()))
            await at(feed, 2)
            assert not attached.done()
            await stream.send(Delta(Revision(3), (BLUE, BLOCK), ()))
        assert attached.result() == ["10.32.0.0/24"]


async def test_a_further_block_is_asked_for_beside_those_that_are_held(records: AttachmentRecords) -> None:
    async with controller() as server, following(server) as feed, blocks_of(server, feed, records) as blocks:
        giving(server, answer(forms.encode(FURTHER)))
        stream = await server.feeds.get()
        await stream.send(*known(BLUE, BLOCK, clusters.block(2, "10.32.1.0/24")))
        await in_sync(feed)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(blocks.grow(NAME, Family.V4))
            assert (await request_to(server, "POST", BLOCKS)).body == {
                "host": "host-1",
                "family": 4,
                "held": ["10.32.0.0/24"],
            }
            await stream.send(Delta(Revision(2), (FURTHER,), ()))
        assert blocks.held(NAME, Family.V4) == (BLOCK, FURTHER)


async def test_the_controllers_refusal_is_the_answer(records: AttachmentRecords) -> None:
    async with controller() as server, following(server) as feed, blocks_of(server, feed, records) as blocks:
        giving(server, problem(404, "not-found", "no such network"))
        await (await server.feeds.get()).send(*known())
        with pytest.raises(NotFound, match="no such network"):
            await _attached(blocks)


async def test_a_host_that_the_store_has_lost_is_asked_again_soon(records: AttachmentRecords) -> None:
    async with controller() as server, following(server) as feed, blocks_of(server, feed, records) as blocks:
        giving(server, problem(404, "not-found", "there is no host 'x'; it has not registered", "host"))
        await (await server.feeds.get()).send(*known())
        with pytest.raises(Unavailable, match="do not know this host yet"):
            await _attached(blocks)


async def test_without_a_block_and_a_controller_nothing_can_be_attached(records: AttachmentRecords) -> None:
    gone = await unused_url()
    cached = clusters.cluster([clusters.host(1), BLUE])
    async with following(gone, cached=cached) as feed, client_of(gone) as client:
        with pytest.raises(Unavailable, match="no controller can do it now"):
            await _attached(HeldBlocks(clusters.HERE, client, feed, records))


async def test_a_network_that_is_being_deleted_takes_no_attachment(records: AttachmentRecords) -> None:
    async with controller() as server, following(server) as feed, blocks_of(server, feed, records) as blocks:
        await (await server.feeds.get()).send(*known(DELETING, BLOCK))
        await in_sync(feed)
        with pytest.raises(InUse, match="is being deleted"):
            await _attached(blocks)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (HostState.DRAINING, "node-1 is draining and takes no containers; overlayctl host resume host-1"),
        (HostState.FORGETTING, "node-1 is being forgotten"),
    ],
)
async def test_a_host_that_is_to_get_nothing_new_takes_no_attachment(
    records: AttachmentRecords, state: HostState, reason: str
) -> None:
    async with controller() as server, following(server) as feed, blocks_of(server, feed, records) as blocks:
        stream = await server.feeds.get()
        await stream.send(*known(BLUE, BLOCK))
        await in_sync(feed)
        await stream.send(Delta(Revision(2), (replace(clusters.host(1), state=state),), ()))
        await at(feed, 2)
        with pytest.raises(InUse, match=reason):
            await _attached(blocks)
        await stream.send(Delta(Revision(3), (clusters.host(1),), ()))
        await at(feed, 3)
        assert await _attached(blocks) == ["10.32.0.0/24"]


async def test_only_this_hosts_blocks_of_a_network_that_goes_are_given_back(records: AttachmentRecords) -> None:
    async with controller() as server, following(server) as feed, blocks_of(server, feed, records) as blocks:
        giving(server, Answer(204, b""))
        async with running(blocks.run(Changes())):
            stream = await server.feeds.get()
            await stream.send(*known(BLUE, GREEN, clusters.block(2, "10.32.1.0/24"), BLOCK, OF_GREEN))
            await in_sync(feed)
            await stream.send(Delta(Revision(2), (DELETING,), ()))
            assert await _given_back(server) == OF_BLOCK
            await stream.send(Delta(Revision(3), (GREEN_DELETING,), (RecordKey.of(BLOCK),)))
            assert await _given_back(server) == PATH_OF_GREEN


async def test_a_block_in_use_is_kept_until_the_last_attachment_goes(records: AttachmentRecords) -> None:
    records.put(WEB)
    attachments = Changes()
    async with controller() as server, following(server) as feed, blocks_of(server, feed, records) as blocks:
        giving(server, Answer(204, b""))
        async with running(blocks.run(attachments)):
            stream = await server.feeds.get()
            await stream.send(*known(DELETING, BLOCK, GREEN_DELETING, OF_GREEN))
            assert await _given_back(server) == PATH_OF_GREEN
            await stream.send(Delta(Revision(2), (), (RecordKey.of(OF_GREEN),)))
            await at(feed, 2)
            records.remove(WEB.endpoint.key)
            attachments.set()
            assert await _given_back(server) == OF_BLOCK


async def test_giving_back_is_tried_again(records: AttachmentRecords) -> None:
    async with controller() as server, following(server) as feed, blocks_of(server, feed, records) as blocks:
        giving(server, problem(409, "in-use", "an endpoint is known"), Answer(502, b""), Answer(204, b""))
        async with running(blocks.run(Changes())):
            await (await server.feeds.get()).send(*known(DELETING, BLOCK))
            for _ in range(3):
                await request_to(server, "DELETE", OF_BLOCK)


async def _attached(blocks: HeldBlocks) -> list[str]:
    async with blocks.attaching(NAME):
        return [str(block.cidr) for block in blocks.held(NAME, Family.V4)]


async def _given_back(server: Server) -> str:
    """Return the path of the next block that is given back."""
    while True:
        request = await server.requests.get()
        if request.method == "DELETE":
            assert request.query == {"host": "host-1"}
            return request.path


async def test_an_agent_that_knows_nothing_yet_is_asked_again_soon(records: AttachmentRecords) -> None:
    async with controller() as server:
        giving(server, answer({}))
        async with following(server) as feed, blocks_of(server, feed, records) as blocks:
            with pytest.raises(Unavailable, match="just started"):
                async with asyncio.timeout(5), blocks.attaching(NAME):
                    pass
            silent = await server.feeds.get()
            assert not [asked for asked in drained(server) if "/blocks" in asked.path], "nobody was waited for"
            await silent.send(*known(BLUE, BLOCK))
            await in_sync(feed)
            async with blocks.attaching(NAME) as network:
                assert network == BLUE


def drained(server: Server) -> list[Request]:
    return [server.requests.get_nowait() for _ in range(server.requests.qsize())]
