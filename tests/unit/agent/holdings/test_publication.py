"""Telling the controllers about this host's endpoints: all of them after an in-sync mark, then what changes."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from overlayd.agent.controllers.client import PART_BYTES_MAX, PART_MAX, in_parts
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.controllers.problem import Problem
from overlayd.agent.holdings.publication import Publication
from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from overlayd.agent.runtime.signals import Changes
from overlayd.model.endpoint import Workload
from overlayd.model.ids import Revision
from overlayd.model.network import Topology
from overlayd.wire import records
from overlayd.wire.feed import Delta, InSync, Snapshot
from overlayd.wire.fields import Json
from tests.support.agents.loopback import (
    Answer,
    Feed,
    Request,
    Server,
    answer,
    client_of,
    controller,
    following,
    problem,
    registered,
    request_to,
    running,
)
from tests.support.controllers import clusters

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
        self.problems: tuple[Problem, ...] = ()
        self.noticed = Changes()

    def notice(self, problems: tuple[Problem, ...]) -> None:
        if problems != self.problems:
            self.problems = problems
            self.noticed.set()

    async def says(self, *problems: str) -> None:
        """Wait until these are the problems that are reported."""
        while tuple(map(str, self.problems)) != problems:
            await self.noticed.wait(self.noticed.count)

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
        running(Publication(client, feed, host.records, host.notice).run(host.attachments)),
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


async def test_later_only_changes_are_published_removals_first(host: Host) -> None:
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
            changed = [await request_to(server, "POST", ENDPOINTS) for _ in range(2)]
    assert (containers(came.body, "puts"), containers(came.body, "deletes")) == (["web"], [])
    assert [containers(each.body, "deletes") for each in changed] == [["web"], []]
    assert [containers(each.body, "puts") for each in changed] == [[], ["db"]]


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


def crowd(count: int) -> list[Attachment]:
    return [
        Attachment(clusters.endpoint(1, f"c{number:05}", f"10.32.{4 + number // 256}.{number % 256}"), (4, number))
        for number in range(count)
    ]


async def test_many_changes_come_in_batches(host: Host) -> None:
    many = crowd(PART_MAX + 1)
    async with controller() as server:
        accepting(server)
        async with publishing(server, host):
            await declare_in_sync(server)
            await request_to(server, "PUT", ENDPOINTS)
            host.attach(*many)
            batches = [await request_to(server, "POST", ENDPOINTS) for _ in range(2)]
    assert [len(containers(batch.body, "puts")) for batch in batches] == [PART_MAX, 1]
    assert sorted(containers(batches[0].body, "puts") + containers(batches[1].body, "puts")) == sorted(
        attachment.endpoint.container_id for attachment in many
    )


def test_parts_fit_into_a_request_and_are_whole_together() -> None:
    labels = tuple((f"key-{number}", "x" * 200) for number in range(7))
    large = [replace(each.endpoint, workload=Workload(labels=labels)) for each in crowd(1000)]
    parts = list(in_parts(large))
    assert [endpoint for part in parts for endpoint in part] == large
    assert all(len(json.dumps([records.encode(each) for each in part])) <= 1.1 * PART_BYTES_MAX for part in parts)
    assert all(len(part) < PART_MAX for part in parts)
    assert list(in_parts([])) == []


SETS = "/v1/hosts/host-1/endpoint-sets"


def bulk(count: int) -> list[Attachment]:
    """Return attachments of which a hundred are more than a part."""
    return [replace(each, endpoint=replace(each.endpoint, sandbox=f"/run/netns/{'x' * 6000}")) for each in crowd(count)]


async def test_more_than_a_request_holds_comes_as_a_set(host: Host) -> None:
    many = bulk(200)
    lengths = [len(part) for part in in_parts(attachment.endpoint for attachment in many)]
    assert len(lengths) == 3
    host.attach(*many)
    async with controller() as server:

        def respond(request: Request) -> Answer | None:
            if request.path == SETS:
                return answer({"set": "s1"}, 201)
            if request.path.startswith(SETS):
                return Answer(204, b"") if "/parts/" in request.path else answer({"revision": 1, "refused": []})
            return registered(request)

        server.respond = respond
        async with publishing(server, host):
            await declare_in_sync(server)
            begun = await request_to(server, "POST", SETS)
            parts = [await request_to(server, "PUT", f"{SETS}/s1/parts/{number}") for number in range(3)]
            await request_to(server, "POST", f"{SETS}/s1/publish")
            host.attach(WEB)
            server.respond = lambda request: Answer(204, b"") if request.path == ENDPOINTS else registered(request)
            later = await request_to(server, "POST", ENDPOINTS)
    assert begun.body == {"count": 200}
    assert [len(containers(part.body, "endpoints")) for part in parts] == lengths
    assert containers(later.body, "puts") == ["web"]


async def test_a_set_that_is_lost_is_sent_again(host: Host) -> None:
    host.attach(*bulk(100))
    async with controller() as server:
        lost = [problem(404, "not-found", "host host-1 has no set 's1' here", "set")]

        def respond(request: Request) -> Answer | None:
            if request.path == SETS:
                return answer({"set": "s1"}, 201)
            if request.path.startswith(SETS):
                return lost.pop() if lost else answer({"revision": 1, "refused": []})
            return registered(request)

        server.respond = respond
        async with publishing(server, host):
            await declare_in_sync(server)
            for _ in range(2):
                await request_to(server, "POST", SETS)
            await request_to(server, "POST", f"{SETS}/s1/publish")


async def test_a_controller_of_an_earlier_release_gets_all_in_one_request(host: Host) -> None:
    host.attach(*bulk(100))
    async with controller() as server:
        accepting(server)
        plain = server.respond
        server.respond = lambda request: (
            problem(404, "not-found", "Not Found") if request.path == SETS else plain(request)
        )
        async with publishing(server, host):
            await declare_in_sync(server)
            whole = await request_to(server, "PUT", ENDPOINTS)
    assert len(containers(whole.body, "endpoints")) == 100


def refusing(*names: str) -> Answer:
    refused: list[Json] = [
        {
            "network": "blue",
            "container_id": name,
            "interface": "eth0",
            "code": "already-exists",
            "detail": "02:00:00:00:00:01 is the MAC of container x on host h2 in network blue",
            "field": "puts[0].mac",
        }
        for name in names
    ]
    return answer({"revision": 1, "refused": refused})


REFUSED = (
    "endpoint blue/web/eth0: the controllers refuse it: 02:00:00:00:00:01 is the MAC of container x on host h2 in"
    " network blue"
)


async def test_what_is_refused_is_reported_and_published_again_by_itself(host: Host) -> None:
    host.attach(WEB, CACHE)
    async with controller() as server:
        accepting(server, refusing("web"), refusing("web"))
        async with publishing(server, host):
            await declare_in_sync(server)
            await request_to(server, "PUT", ENDPOINTS)
            await host.says(REFUSED)
            for _ in range(2):  # refused once more, then taken
                again = await request_to(server, "POST", ENDPOINTS)
                assert containers(again.body, "puts") == ["web"]
            await host.says()
            host.detach(WEB)
            gone = await request_to(server, "POST", ENDPOINTS)
            assert containers(gone.body, "deletes") == ["web"]


async def test_what_is_refused_holds_nothing_back_and_is_over_with_its_container(host: Host) -> None:
    host.attach(WEB)
    async with controller() as server:
        accepting(server, *(refusing("web") for _ in range(100)))
        async with publishing(server, host):
            await declare_in_sync(server)
            await request_to(server, "PUT", ENDPOINTS)
            await host.says(REFUSED)
            host.attach(DATABASE)
            while containers((await request_to(server, "POST", ENDPOINTS)).body, "puts") != ["db"]:
                pass
            host.detach(WEB)
            await host.says()


async def test_a_refusal_of_the_whole_host_is_reported(host: Host) -> None:
    host.attach(WEB)
    async with controller() as server:
        accepting(server, *(problem(409, "in-use", "host host-1 is being forgotten") for _ in range(2)))
        async with publishing(server, host):
            await declare_in_sync(server)
            await host.says("endpoints of this host: the controllers refuse them: host host-1 is being forgotten")
            await host.says()


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
        bodies = [(await request_to(server, "POST", ENDPOINTS)).body for _ in range(2)]
        assert [containers(body, "deletes") for body in bodies] == [["web"], []]
        assert [containers(body, "puts") for body in bodies] == [[], ["both"]]
        assert "fd00:32::9" not in json.dumps(bodies)


async def test_a_key_is_settled_when_its_deletion_was_told(host: Host) -> None:
    host.attach(WEB)
    async with controller() as server, following(server) as feed, client_of(server) as client:
        accepting(server)
        publication = Publication(client, feed, host.records, host.notice)
        async with running(publication.run(host.attachments)):
            await declare_in_sync(server)
            await request_to(server, "PUT", ENDPOINTS)
            await publication.settled(WEB.endpoint.key)
            host.detach(WEB)
            await publication.settled(WEB.endpoint.key)
            requests = [server.requests.get_nowait() for _ in range(server.requests.qsize())]
            assert [containers(each.body, "deletes") for each in requests if each.method == "POST"] == [["web"]]
