"""Telling the controllers about this host's endpoints: all of them after an in-sync mark, then what changes."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from overlayd.agent.changes import Changes
from overlayd.agent.checkpoint import Attachment, AttachmentRecords
from overlayd.agent.feed import ClusterFeed
from overlayd.agent.publication import BATCH, Publication
from overlayd.model.ids import Revision
from overlayd.model.network import Topology
from overlayd.wire.feed import Delta, InSync, Snapshot
from overlayd.wire.fields import Json
from tests.support import clusters
from tests.unit.agent.loopback import (
    Answer,
    Feed,
    Request,
    Server,
    client_of,
    controller,
    following,
    problem,
    registered,
    request_to,
    running,
)

pytestmark = pytest.mark.anyio

ENDPOINTS = "/v1/hosts/host-1/endpoints"
WEB = Attachment(clusters.endpoint(1, "web", "10.32.0.2"), (4, 1))
CACHE = Attachment(clusters.endpoint(1, "cache", "10.32.0.4"), (4, 3))
DATABASE = Attachment(clusters.endpoint(1, "db", "10.32.0.3"), (4, 2))


class Host:
    """A host whose endpoints are published, and the changes that wake the publication."""

    def __init__(self, directory: Path) -> None:
        self.records = AttachmentRecords(directory)
        self.attachments = Changes()

    def attach(self, *attachments: Attachment) -> None:
        for attachment in attachments:
            self.records.put(attachment)
        self.attachments.set()

    def detach(self, *attachments: Attachment) -> None:
        for attachment in attachments:
            self.records.remove(attachment.endpoint.key)
        self.attachments.set()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@asynccontextmanager
async def publishing(server: Server, host: Host) -> AsyncIterator[ClusterFeed]:
    async with (
        following(server) as feed,
        client_of(server) as client,
        running(Publication(client, feed, host.records).run(host.attachments)),
    ):
        yield feed


async def declare_in_sync(server: Server) -> Feed:
    stream = await server.feeds.get()
    await stream.send(InSync(Revision(1)))
    return stream


def containers(body: Json, part: str) -> list[str]:
    assert isinstance(body, Mapping)
    entries = body[part]
    assert isinstance(entries, list)
    return sorted(str(entry["container_id"]) for entry in entries if isinstance(entry, Mapping))


def accepting(server: Server, *first: Answer) -> None:
    """Let the server answer the first publications with these, and take every other."""
    left = list(first)

    def respond(request: Request) -> Answer | None:
        if request.path == ENDPOINTS:
            return left.pop(0) if left else Answer(204, b"")
        return registered(request)

    server.respond = respond


async def test_after_an_in_sync_mark_everything_is_published(host: Host) -> None:
    host.attach(WEB, DATABASE)
    async with controller() as server:
        accepting(server)
        async with publishing(server, host):
            await declare_in_sync(server)
            whole = await request_to(server, "PUT", ENDPOINTS)
    assert containers(whole.body, "endpoints") == ["db", "web"]


async def test_a_host_without_endpoints_says_so(host: Host) -> None:
    async with controller() as server:
        accepting(server)
        async with publishing(server, host):
            await declare_in_sync(server)
            assert (await request_to(server, "PUT", ENDPOINTS)).body == {"endpoints": []}


async def test_later_only_changes_are_published(host: Host) -> None:
    host.attach(CACHE)
    async with controller() as server:
        accepting(server)
        async with publishing(server, host):
            await declare_in_sync(server)
            await request_to(server, "PUT", ENDPOINTS)
            host.attach(WEB)
            came = await request_to(server, "POST", ENDPOINTS)
            host.attach(DATABASE)
            host.detach(WEB)
            changed = await request_to(server, "POST", ENDPOINTS)
    assert (containers(came.body, "puts"), containers(came.body, "deletes")) == (["web"], [])
    assert (containers(changed.body, "puts"), containers(changed.body, "deletes")) == (["db"], ["web"])


async def test_after_a_reconnection_everything_is_published_again(host: Host) -> None:
    host.attach(WEB)
    async with controller() as server:
        accepting(server)
        async with publishing(server, host):
            stream = await declare_in_sync(server)
            await request_to(server, "PUT", ENDPOINTS)
            stream.break_off()
            await declare_in_sync(server)
            whole = await request_to(server, "PUT", ENDPOINTS)
    assert containers(whole.body, "endpoints") == ["web"]


async def test_what_was_refused_is_published_again_as_it_is_then(host: Host) -> None:
    host.attach(WEB)
    async with controller() as server:
        accepting(server, problem(503, "unavailable", "no quorum"), Answer(502, b""))
        async with publishing(server, host):
            await declare_in_sync(server)
            for _ in range(2):
                refused = await request_to(server, "PUT", ENDPOINTS)
                assert containers(refused.body, "endpoints") == ["web"]
            host.detach(WEB)
            host.attach(DATABASE)
            taken = await request_to(server, "PUT", ENDPOINTS)
    assert containers(taken.body, "endpoints") == ["db"]


async def test_many_changes_come_in_batches(host: Host) -> None:
    crowd = [
        Attachment(clusters.endpoint(1, f"c{number}", f"10.32.{4 + number // 256}.{number % 256}"), (4, number))
        for number in range(BATCH + 1)
    ]
    async with controller() as server:
        accepting(server)
        async with publishing(server, host):
            await declare_in_sync(server)
            await request_to(server, "PUT", ENDPOINTS)
            host.attach(*crowd)
            batches = [await request_to(server, "POST", ENDPOINTS) for _ in range(2)]
    assert [len(containers(batch.body, "puts")) for batch in batches] == [BATCH, 1]
    assert sorted(containers(batches[0].body, "puts") + containers(batches[1].body, "puts")) == sorted(
        attachment.endpoint.container_id for attachment in crowd
    )


async def test_an_address_that_is_another_ones_by_now_is_not_published(host: Host) -> None:
    """The controllers would refuse it, and with it all that comes in the same request."""
    both = Attachment(clusters.endpoint(1, "both", "10.32.0.9,fd00:32::9"), (4, 4))
    host.attach(WEB, both)
    lost = (clusters.reservation("web", "10.32.0.2"), clusters.reservation("both", "fd00:32::9"))
    async with controller() as server, publishing(server, host):
        accepting(server)
        stream = await server.feeds.get()
        await stream.send(Snapshot(Revision(1), clusters.dual(Topology.ROUTED).records), InSync(Revision(1)))
        body = (await request_to(server, "PUT", ENDPOINTS)).body
        assert containers(body, "endpoints") == ["both", "web"]
        await stream.send(Delta(Revision(2), lost, ()))
        body = (await request_to(server, "POST", ENDPOINTS)).body
        assert (containers(body, "deletes"), containers(body, "puts")) == (["web"], ["both"])
        assert "fd00:32::9" not in json.dumps(body)


async def test_a_key_is_settled_when_its_deletion_was_told(host: Host) -> None:
    host.attach(WEB)
    async with controller() as server, following(server) as feed, client_of(server) as client:
        accepting(server)
        publication = Publication(client, feed, host.records)
        async with running(publication.run(host.attachments)):
            await declare_in_sync(server)
            await request_to(server, "PUT", ENDPOINTS)
            await publication.settled(WEB.endpoint.key)
            host.detach(WEB)
            await publication.settled(WEB.endpoint.key)
            requests = [server.requests.get_nowait() for _ in range(server.requests.qsize())]
            assert [containers(each.body, "deletes") for each in requests if each.method == "POST"] == [["web"]]
