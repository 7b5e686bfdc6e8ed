"""The reservations of this host's endpoints: claimed when the feed says so, released when no endpoint needs them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.holdings.publication import Publication
from overlayd.agent.holdings.reservations import HeldReservations
from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from overlayd.agent.runtime.signals import Changes
from overlayd.model.errors import InUse, NotFound, Unavailable
from overlayd.model.ids import NetworkName, ReservationName, Revision
from overlayd.model.reservation import Reservation
from overlayd.wire import records as forms
from overlayd.wire.feed import Bookmark, Delta, InSync, Snapshot
from tests.support.agents.loopback import (
    Answer,
    Request,
    Server,
    answer,
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

BLUE, BLOCK = clusters.network("blue"), clusters.block(1, "10.32.0.0/24")
WEB = clusters.endpoint(1, "web", "10.32.9.9")
ELSEWHERE = clusters.endpoint(2, "web", "10.32.9.9")
FREE, MINE, THEIRS = (clusters.reservation("db", "10.32.9.9", holder) for holder in (None, WEB, ELSEWHERE))
CLAIM, RELEASE = (f"/v1/networks/blue/reservations/db/{verb}" for verb in ("claim", "release"))
HOLDER = {"host": "host-1", "container_id": "web", "interface": "eth0"}


@asynccontextmanager
async def reservations_of(
    server: Server | str, feed: ClusterFeed, records: AttachmentRecords
) -> AsyncIterator[HeldReservations]:
    async with client_of(server) as client:
        publication = Publication(client, feed, records, lambda _: None)
        async with running(publication.run(Changes())):
            yield HeldReservations(client, feed, records, publication)


def answering(server: Server, revision: int) -> None:
    """Let the server answer claims and releases as of a revision."""

    def respond(request: Request) -> Answer | None:
        if "/reservations/" in request.path:
            return answer({**forms.encode(MINE), "revision": revision})
        return published(request) or registered(request)

    server.respond = respond


def published(request: Request) -> Answer | None:
    return Answer(204, b"") if request.path == "/v1/hosts/host-1/endpoints" else None


async def begun(server: Server, feed: ClusterFeed, *more: Reservation) -> asyncio.Queue[Delta | Bookmark]:
    """Declare the feed in sync; what is put into the queue is sent."""
    stream = await server.feeds.get()
    await stream.send(Snapshot(Revision(1), (clusters.host(1), BLUE, BLOCK, *more)), InSync(Revision(1)))
    await in_sync(feed)
    queue: asyncio.Queue[Delta | Bookmark] = asyncio.Queue()

    async def send() -> None:
        while True:
            await stream.send(await queue.get())

    _senders.add(asyncio.create_task(send()))
    return queue


_senders: set[asyncio.Task[None]] = set()


@pytest.fixture
def records(tmp_path: Path) -> AttachmentRecords:
    return AttachmentRecords(tmp_path)


async def claimed(reservations: HeldReservations) -> Reservation:
    async with reservations.claimed(FREE, WEB.key) as reservation:
        return reservation


async def test_a_claim_is_in_force_when_the_feed_has_brought_it(records: AttachmentRecords) -> None:
    async with controller() as server, following(server) as feed, reservations_of(server, feed, records) as held:
        answering(server, 5)
        deltas = await begun(server, feed, FREE)
        task = asyncio.create_task(claimed(held))
        assert (await request_to(server, "POST", CLAIM)).body == HOLDER
        deltas.put_nowait(Delta(Revision(4), (clusters.network("green"),), ()))
        while feed.cluster.revision < 4:
            await feed.changes.wait(feed.changes.count)
        assert not task.done()
        deltas.put_nowait(Delta(Revision(5), (MINE,), ()))
        assert await task == MINE


@pytest.mark.parametrize("comes", [Delta(Revision(6), (THEIRS,), ()), Bookmark(Revision(6))], ids=["delta", "bookmark"])
async def test_whoever_is_beaten_to_a_reservation_is_told(records: AttachmentRecords, comes: Delta | Bookmark) -> None:
    async with controller() as server, following(server) as feed, reservations_of(server, feed, records) as held:
        answering(server, 5)
        deltas = await begun(server, feed, FREE)
        deltas.put_nowait(comes)
        with pytest.raises(InUse, match="claimed by another endpoint"):
            await claimed(held)


async def test_the_controllers_refusal_is_the_answer(records: AttachmentRecords) -> None:
    async with controller() as server, following(server) as feed, reservations_of(server, feed, records) as held:
        server.respond = lambda request: (
            problem(409, "in-use", "node-1 is draining")
            if request.path == CLAIM
            else published(request) or registered(request)
        )
        await begun(server, feed, FREE)
        with pytest.raises(InUse, match="node-1 is draining"):
            await claimed(held)


async def test_without_a_controller_nothing_is_claimed(records: AttachmentRecords) -> None:
    gone = await unused_url()
    async with following(gone) as feed, reservations_of(gone, feed, records) as held:
        with pytest.raises(Unavailable):
            await claimed(held)


async def test_a_reservation_is_found_by_name_and_by_address(records: AttachmentRecords) -> None:
    async with controller() as server, following(server) as feed, reservations_of(server, feed, records) as held:
        await begun(server, feed, THEIRS)
        assert held.get(BLUE.name, ReservationName("db")) == THEIRS
        assert held.at(BLUE.name, WEB.addresses[0]) == THEIRS
        assert held.at(NetworkName("green"), WEB.addresses[0]) is None
        assert held.lost(WEB) == set(WEB.addresses)
        with pytest.raises(NotFound, match="has no reservation web"):
            held.get(BLUE.name, ReservationName("web"))


async def test_what_is_held_for_no_endpoint_is_released_and_nothing_else(records: AttachmentRecords) -> None:
    other = clusters.endpoint(1, "cache", "10.32.9.8")
    kept = clusters.reservation("cache", "10.32.9.8", other)
    records.put(Attachment(other, (4, 1)))
    async with controller() as server, following(server) as feed, reservations_of(server, feed, records) as held:
        answering(server, 5)
        async with running(held.run(Changes())):
            deltas = await begun(server, feed, kept, THEIRS)
            deltas.put_nowait(Delta(Revision(2), (MINE,), ()))
            first = await server.requests.get()
            while "/reservations/" not in first.path:
                first = await server.requests.get()
            assert (first.path, first.body) == (RELEASE, HOLDER)


async def test_what_is_being_claimed_is_released_only_after_the_attachment_failed(records: AttachmentRecords) -> None:
    async with controller() as server, following(server) as feed, reservations_of(server, feed, records) as held:
        answering(server, 5)
        async with running(held.run(Changes())):
            deltas = await begun(server, feed, FREE)
            deltas.put_nowait(Delta(Revision(5), (MINE,), ()))
            async with held.claimed(FREE, WEB.key):
                await request_to(server, "POST", CLAIM)
                assert server.requests.empty()
            assert (await request_to(server, "POST", RELEASE)).body == HOLDER
