"""What a host says of itself: which revision its kernel matches, and what is wrong with which network."""

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from overlayd.agent.controllers.client import ControllerClient
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.holdings import status_report
from overlayd.agent.holdings.status_report import BOOKMARKS_AT_ONCE, Allowance, report
from overlayd.agent.reconcile.checksums import Checksums
from overlayd.agent.reconcile.controller_addresses import ControllerAddresses
from overlayd.agent.reconcile.local import Local
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.dataplane.desired.firewall import Metadata
from overlayd.dataplane.items import NamespaceRef
from overlayd.model.cluster import Cluster
from overlayd.model.ids import Revision
from overlayd.wire.feed import Bookmark, Delta, InSync
from overlayd.wire.fields import Fields
from tests.support.agents.loopback import (
    Answer,
    Request,
    Server,
    at,
    client_of,
    controller,
    following,
    in_sync,
    registered,
    request_to,
    running,
)
from tests.support.controllers import clusters
from tests.support.kernel.fake_kernel import FakeKernel

pytestmark = pytest.mark.anyio

REPORT = "/v1/hosts/host-1/report"
RED, BLUE = clusters.network("red", cidr="10.64.0.0/16"), clusters.network("blue")
BOTH = clusters.cluster([clusters.host(1), BLUE, RED, clusters.block(1, "10.32.0.0/24")], revision=7)


class Host:
    """A host whose cycle goes round when the test says so."""

    def __init__(self, feed: ClusterFeed, kernel: FakeKernel, directory: Path) -> None:
        self.feed = feed
        self._turn = KernelTurn(kernel)
        controllers = ControllerAddresses(["http://192.0.2.250:7471"], directory / "controllers.json")
        local = Local(clusters.HERE, 4789, 3600, frozenset(), controllers, Metadata.REFUSED)
        checksums = Checksums(directory / "software-checksums")
        self.records = AttachmentRecords(directory)
        self.reconciler = Reconciler(self._turn, feed, self.records, checksums, local)

    async def cycle(self) -> None:
        await self.reconciler.cycle()

    def close(self) -> None:
        self._turn.close()


@asynccontextmanager
async def reporting(
    server: Server, kernel: FakeKernel, directory: Path, cached: Cluster | None = None
) -> AsyncIterator[Host]:
    def respond(request: Request) -> Answer | None:
        return Answer() if request.path == REPORT else registered(request)

    server.respond = respond
    async with following(server, cached=cached) as feed, client_of(server) as client:
        host = Host(feed, kernel, directory)
        async with running(report(client, feed, host.reconciler)):
            yield host
        host.close()


async def said_so_far(server: Server) -> list[Request]:
    """Return the reports that came, when everybody who had something to say has had the time for it."""
    async with client_of(server) as client:
        for _ in range(3):
            await _call(client)
    return [request for request in _drained(server) if request.path == REPORT]


async def _call(client: ControllerClient) -> None:
    await client.register("node-1", IPv4Address("192.0.2.1"), Cluster())


def _drained(server: Server) -> list[Request]:
    return [server.requests.get_nowait() for _ in range(server.requests.qsize())]


async def test_a_revision_is_reported_once_the_kernel_holds_nothing_else(tmp_path: Path) -> None:
    kernel = FakeKernel()
    async with controller() as server, reporting(server, kernel, tmp_path, cached=BOTH) as host:
        kernel.add_sandbox("/run/netns/ov-gone")  # of a network that was deleted while no agent ran
        await host.cycle()
        assert host.reconciler.status.applied == 7
        await (await server.feeds.get()).send(InSync(Revision(7)))
        await in_sync(host.feed)
        assert await said_so_far(server) == []
        await host.cycle()
        assert NamespaceRef("/run/netns/ov-gone") not in kernel.namespaces()
        report = Fields((await request_to(server, "POST", REPORT)).body)
        assert (report.number("revision"), report.items("problems")) == (7, [])


async def test_a_revision_that_changes_nothing_here_is_reported_too(tmp_path: Path) -> None:
    async with controller() as server, reporting(server, FakeKernel(), tmp_path, cached=BOTH) as host:
        stream = await server.feeds.get()
        await stream.send(InSync(Revision(7)))
        await in_sync(host.feed)
        await host.cycle()
        assert Fields((await request_to(server, "POST", REPORT)).body).number("revision") == 7
        await stream.send(Delta(Revision(8), (), ()))
        await at(host.feed, 8)
        await host.cycle()
        assert Fields((await request_to(server, "POST", REPORT)).body).number("revision") == 8


async def test_a_bookmark_is_reported_without_a_cycle(tmp_path: Path) -> None:
    async with controller() as server, reporting(server, FakeKernel(), tmp_path, cached=BOTH) as host:
        stream = await server.feeds.get()
        await stream.send(InSync(Revision(7)))
        await in_sync(host.feed)
        await host.cycle()
        assert Fields((await request_to(server, "POST", REPORT)).body).number("revision") == 7
        await stream.send(Bookmark(Revision(8)))
        assert Fields((await request_to(server, "POST", REPORT)).body).number("revision") == 8


async def test_a_bookmark_does_not_say_that_a_change_before_it_is_in_force(tmp_path: Path) -> None:
    async with controller() as server, reporting(server, FakeKernel(), tmp_path, cached=BOTH) as host:
        stream = await server.feeds.get()
        await stream.send(InSync(Revision(7)))
        await in_sync(host.feed)
        await host.cycle()
        await stream.send(Delta(Revision(8), (clusters.block(1, "10.64.0.0/24", "red"),), ()), Bookmark(Revision(9)))
        await at(host.feed, 9)
        assert host.reconciler.status.applied == 7
        await host.cycle()
        assert (host.reconciler.status.applied, host.reconciler.status.changed) == (9, 9)


async def test_a_change_is_reported_at_once_after_more_bookmarks_than_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_report, "PACE", 0.0)
    async with controller() as server, reporting(server, FakeKernel(), tmp_path, cached=BOTH) as host:
        stream = await server.feeds.get()
        await stream.send(InSync(Revision(7)))
        await in_sync(host.feed)
        await host.cycle()
        reported = 7
        for revision in range(8, 8 + BOOKMARKS_AT_ONCE):
            assert Fields((await request_to(server, "POST", REPORT)).body).number("revision") == reported
            await stream.send(Bookmark(Revision(revision)))
            reported = (await at(host.feed, revision)).revision
        assert Fields((await request_to(server, "POST", REPORT)).body).number("revision") == reported
        await stream.send(Bookmark(Revision(reported + 1)))
        await at(host.feed, reported + 1)
        assert await said_so_far(server) == []
        await stream.send(Delta(Revision(reported + 2), (clusters.block(1, "10.64.0.0/24", "red"),), ()))
        await at(host.feed, reported + 2)
        await host.cycle()
        assert Fields((await request_to(server, "POST", REPORT)).body).number("revision") == reported + 2


def test_what_is_allowed_comes_back_with_time() -> None:
    allowance = Allowance(2, 3.0)
    for moment in (10.0, 10.0):
        assert allowance.next(moment) == moment
        allowance.use(moment)
    assert allowance.next(10.0) == 13.0
    assert allowance.next(13.0) == 13.0
    allowance.use(13.0)
    assert allowance.next(13.0) == 16.0
    assert allowance.next(100.0) == 100.0


async def test_a_problem_names_its_network(tmp_path: Path) -> None:
    kernel = FakeKernel()
    async with controller() as server, reporting(server, kernel, tmp_path, cached=BOTH) as host:
        await (await server.feeds.get()).send(InSync(Revision(7)))
        await in_sync(host.feed)
        kernel.fail_next(errno.EBUSY)
        await host.cycle()
        report = Fields((await request_to(server, "POST", REPORT)).body)
        assert {problem.text("network") for problem in report.objects("problems")} == {"blue"}


async def test_after_a_reconnection_the_same_is_reported_again(tmp_path: Path) -> None:
    async with controller() as server, reporting(server, FakeKernel(), tmp_path, cached=BOTH) as host:
        stream = await server.feeds.get()
        await stream.send(InSync(Revision(7)))
        await in_sync(host.feed)
        await host.cycle()
        first = await request_to(server, "POST", REPORT)
        stream.break_off()
        await (await server.feeds.get()).send(InSync(Revision(7)))
        assert (await request_to(server, "POST", REPORT)).body == first.body
