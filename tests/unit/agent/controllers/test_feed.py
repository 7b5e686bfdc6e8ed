"""Following the feed from real controllers on the loopback interface: what the agent then knows of the cluster."""

import pytest

from overlayd.model.cluster import RecordKey
from overlayd.model.errors import AlreadyExists, InvalidValue, Unauthenticated, Unavailable
from overlayd.model.ids import Revision
from overlayd.wire.feed import Bookmark, Delta, InSync, Snapshot
from tests.support.agents.loopback import (
    Answer,
    Request,
    at,
    controller,
    failed,
    following,
    in_sync,
    problem,
    registered,
    unused_url,
)
from tests.support.controllers import clusters

pytestmark = pytest.mark.anyio

BLUE, GREEN, HOST = clusters.network("blue"), clusters.network("green"), clusters.host(1)
CACHED = clusters.cluster([BLUE, HOST], revision=7)


async def test_a_first_start_registers_and_asks_for_everything() -> None:
    async with controller() as server, following(server):
        stream = await server.feeds.get()
        assert stream.query == {"host": "host-1", "instance": "instance-1", "version": "2"}
        assert server.requests.get_nowait() == Request(
            "PUT", "/v1/hosts/host-1", {}, {"name": "node-1", "address": "192.0.2.1", "instance": "instance-1"}
        )


async def test_a_snapshot_replaces_what_was_known_when_it_is_whole() -> None:
    async with controller() as server, following(server, cached=CACHED) as feed:
        stream = await server.feeds.get()
        await stream.send(Snapshot(Revision(9), (GREEN,)), Snapshot(Revision(9), (clusters.host(2),)))
        await stream.send(InSync(Revision(9)))
        assert await in_sync(feed) == clusters.cluster([GREEN, clusters.host(2)], revision=9)


async def test_a_refused_credential_is_a_problem_and_what_is_known_stays() -> None:
    async with controller() as server:
        server.respond = lambda _: problem(401, "unauthenticated", "the token was revoked")
        async with following(server, cached=CACHED) as feed:
            assert isinstance(await failed(feed), Unauthenticated)
            assert (feed.cluster, feed.in_sync) == (CACHED, False)


async def test_an_empty_snapshot_empties_what_was_known() -> None:
    async with controller() as server, following(server, cached=CACHED) as feed:
        await (await server.feeds.get()).send(Snapshot(Revision(9), ()), InSync(Revision(9)))
        assert await in_sync(feed) == clusters.cluster([], revision=9)


async def test_a_snapshot_that_breaks_off_changes_nothing() -> None:
    async with controller() as server, following(server, cached=CACHED) as feed:
        stream = await server.feeds.get()
        await stream.send(Snapshot(Revision(9), (GREEN,)))
        stream.break_off()
        assert isinstance(await failed(feed), Unavailable)
        assert (feed.cluster, feed.in_sync) == (CACHED, False)
        again = await server.feeds.get()
        await again.send(Snapshot(Revision(10), (clusters.host(3),)), InSync(Revision(10)))
        assert await in_sync(feed) == clusters.cluster([clusters.host(3)], revision=10)


async def test_a_resume_keeps_what_was_known_and_brings_what_was_missed() -> None:
    async with controller() as server, following(server, cached=CACHED) as feed:
        stream = await server.feeds.get()
        assert stream.query["after"] == "7"
        assert not feed.in_sync
        await stream.send(Delta(Revision(9), (GREEN,), (RecordKey.of(HOST),)), InSync(Revision(9)))
        assert await in_sync(feed) == clusters.cluster([BLUE, GREEN], revision=9)
        assert feed.in_sync


async def test_what_an_older_controller_told_is_told_anew_by_the_next_one() -> None:
    async with controller() as server, following(server) as feed:
        stream = await server.feeds.get()
        await stream.send(Snapshot(Revision(9), (BLUE, HOST)), InSync(Revision(9), version=1))
        assert (await in_sync(feed)).revision == 9
        assert feed.version == 1
        stream.end()
        again = await server.feeds.get()
        assert "after" not in again.query
        await again.send(Snapshot(Revision(9), (BLUE, HOST)), InSync(Revision(9)))
        await in_sync(feed, 2)
        again.end()
        assert (await server.feeds.get()).query["after"] == "9"


async def test_changes_are_taken_as_they_come() -> None:
    async with controller() as server, following(server) as feed:
        stream = await server.feeds.get()
        await stream.send(Snapshot(Revision(1), (BLUE, HOST)), InSync(Revision(1)))
        await stream.send(Delta(Revision(2), (GREEN,), ()))
        assert await at(feed, 2) == clusters.cluster([BLUE, GREEN, HOST], revision=2)
        await stream.send(Delta(Revision(3), (), (RecordKey.of(BLUE),)))
        assert await at(feed, 3) == clusters.cluster([GREEN, HOST], revision=3)
        await stream.send(Bookmark(Revision(8)))
        assert await at(feed, 8) == clusters.cluster([GREEN, HOST], revision=8)


async def test_a_bookmark_is_no_change_and_one_without_news_wakes_nobody() -> None:
    async with controller() as server, following(server) as feed:
        stream = await server.feeds.get()
        await stream.send(Snapshot(Revision(1), ()), InSync(Revision(1)))
        await in_sync(feed)
        seen, known = feed.changes.count, feed.cluster
        await stream.send(Bookmark(Revision(1)), Bookmark(Revision(1)), Bookmark(Revision(2)))
        await at(feed, 2)
        assert (feed.changes.count, feed.bookmarks.count) == (seen, 1)
        assert feed.cluster.has_records_of(known)


@pytest.mark.parametrize("ends", [True, False], ids=["ended", "broken"])
async def test_a_stream_that_stops_is_resumed_where_it_was(ends: bool) -> None:  # noqa: FBT001 - a parameter
    async with controller() as server, following(server) as feed:
        stream = await server.feeds.get()
        await stream.send(Snapshot(Revision(4), (BLUE,)), InSync(Revision(4)), Bookmark(Revision(6)))
        known = await at(feed, 6)
        if ends:
            stream.end()
        else:
            stream.break_off()
        again = await server.feeds.get()
        assert again.query["after"] == "6"
        assert (feed.cluster, feed.in_sync) == (known, True)
        await again.send(InSync(Revision(6)))
        assert await in_sync(feed, 2) == known
        assert feed.problem is None


async def test_a_broken_stream_is_a_problem_until_the_next_in_sync() -> None:
    async with controller() as server, following(server, cached=CACHED) as feed:
        (await server.feeds.get()).break_off()
        assert isinstance(await failed(feed), Unavailable)
        again = await server.feeds.get()
        await again.send(Bookmark(Revision(8)))
        await at(feed, 8)
        assert feed.problem is not None
        await again.send(InSync(Revision(8)))
        await in_sync(feed)
        assert feed.problem is None


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"<html>\n", None),
        (b"\n", None),
        (b"\xff\xfe\n", None),
        (b"[" * 100_000 + b"\n", None),
        (b'{"revision": 8, "type": "delta", "deletes": [], "puts": [{"kind": "host", "id": 5}]}\n', "puts[0].id"),
        (b'{"revision": 8, "type": "tunnel"}\n', "type"),
    ],
)
async def test_a_bad_line_is_a_problem_and_changes_nothing(line: bytes, field: str | None) -> None:
    async with controller() as server, following(server, cached=CACHED) as feed:
        await (await server.feeds.get()).send(line, Delta(Revision(9), (GREEN,), ()))
        refused = await failed(feed)
        assert isinstance(refused, InvalidValue)
        assert refused.field == field
        again = await server.feeds.get()
        assert again.query["after"] == "7"
        assert feed.cluster == CACHED
        await again.send(InSync(Revision(7)))
        await in_sync(feed)
        assert feed.problem is None


async def test_a_controller_that_is_gone_is_passed_over() -> None:
    gone = await unused_url()
    async with controller() as second, following(gone, second) as feed:
        await (await second.feeds.get()).send(Snapshot(Revision(1), (BLUE,)), InSync(Revision(1)))
        assert await in_sync(feed) == clusters.cluster([BLUE], revision=1)
        assert feed.controller == second.url


async def test_a_broken_stream_is_resumed_at_the_next_controller() -> None:
    async with controller() as first, controller() as second, following(first, second) as feed:
        stream = await first.feeds.get()
        await stream.send(Snapshot(Revision(4), (BLUE,)), InSync(Revision(4)))
        await in_sync(feed)
        stream.break_off()
        again = await second.feeds.get()
        assert again.query["after"] == "4"
        assert second.requests.get_nowait().path == "/v1/hosts/host-1"
        await again.send(Delta(Revision(5), (GREEN,), ()), InSync(Revision(5)))
        assert await in_sync(feed, 2) == clusters.cluster([BLUE, GREEN], revision=5)


def ready(request: Request) -> Answer | None:
    return Answer() if request.path == "/readyz" else registered(request)


async def test_a_controller_that_lost_its_store_is_left_for_one_that_has_it() -> None:
    async with controller() as first, controller() as second, controller() as third:
        third.respond = ready
        async with following(first, second, third) as feed:
            stream = await first.feeds.get()
            await stream.send(Snapshot(Revision(4), (BLUE,)), InSync(Revision(4)))
            await in_sync(feed)
            await stream.send(Bookmark(Revision(4), stale=True))
            again = await third.feeds.get()
            assert again.query["after"] == "4"
            await again.send(InSync(Revision(4)))
            await in_sync(feed, 2)
            assert second.feeds.empty()


async def test_a_controller_that_lost_its_store_is_kept_while_no_other_has_it() -> None:
    async with controller() as first, controller() as second, following(first, second) as feed:
        stream = await first.feeds.get()
        await stream.send(Snapshot(Revision(4), (BLUE,)), InSync(Revision(4)))
        await stream.send(Bookmark(Revision(4), stale=True), Bookmark(Revision(4), stale=True))
        assert (await second.requests.get()).path == "/readyz"
        await stream.send(Delta(Revision(5), (GREEN,), ()))
        assert await at(feed, 5) == clusters.cluster([BLUE, GREEN], revision=5)
        assert (feed.problem, feed.syncs.count) == (None, 1)
        assert second.requests.empty(), "it was asked once, and not at each bookmark"


async def test_a_refused_registration_is_told_and_tried_at_the_next_controller() -> None:
    async with controller() as first, controller() as second:
        first.respond = lambda _: problem(409, "already-exists", "node-7 has this id")
        async with following(first, second, cached=CACHED) as feed:
            refused = await failed(feed)
            assert isinstance(refused, AlreadyExists)
            assert "node-7 has this id" in str(refused)
            await (await second.feeds.get()).send(InSync(Revision(7)))
            assert await in_sync(feed) == CACHED
            assert first.feeds.empty()


@pytest.mark.parametrize(
    "reply",
    [problem(503, "unavailable", "no quorum"), Answer(502, b"<html>"), Answer(302, b""), Answer(404, b"")],
)
async def test_a_refused_feed_is_a_problem_and_is_tried_again(reply: Answer) -> None:
    async with controller() as server:
        refusals = [reply]

        def respond(request: Request) -> Answer | None:
            return refusals.pop() if request.path == "/v1/feed" and refusals else registered(request)

        server.respond = respond
        async with following(server, cached=CACHED) as feed:
            assert isinstance(await failed(feed), Unavailable)
            await (await server.feeds.get()).send(InSync(Revision(7)))
            assert await in_sync(feed) == CACHED
