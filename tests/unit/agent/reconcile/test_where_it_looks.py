"""A cycle observes what a change of the cluster or of the kernel asks for, and a resync everything."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.records.attachment_records import Attachment
from overlayd.dataplane.desired.endpoint import host_end
from overlayd.dataplane.items import HOST, Link, NamespaceRef, State, network_namespace
from overlayd.dataplane.ownership import VXLAN
from overlayd.kernel.port import Surroundings
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.ids import NetworkName, Revision
from tests.support.agents.loopback import claims_of, client_of, unused_url
from tests.support.controllers import clusters
from tests.support.kernel.fake_kernel import FakeKernel
from tests.unit.agent.holdings.test_reports import Host

pytestmark = pytest.mark.anyio

BLUE, GREEN = (network_namespace(NetworkName(name)) for name in ("blue", "green"))
BOTH = clusters.cluster(
    [
        clusters.network("blue"),
        clusters.network("green", cidr="10.64.0.0/16"),
        *(clusters.host(number) for number in (1, 2)),
        clusters.block(1, "10.32.0.0/24"),
        clusters.block(1, "10.64.0.0/24", "green"),
    ]
)
NEWCOMER = clusters.block(2, "10.32.1.0/24")


class WatchedKernel(FakeKernel):
    """Keeps which namespaces were observed, and how often the host's surroundings were."""

    def __init__(self) -> None:
        super().__init__()
        self.observed = set[NamespaceRef]()
        self.looked_around = 0

    def surroundings(self) -> Surroundings:
        self.looked_around += 1
        return super().surroundings()

    def observe(self, namespaces: Iterable[NamespaceRef]) -> State:
        asked = frozenset(namespaces)
        self.observed |= asked
        return super().observe(asked)

    def links_of(self, ns: NamespaceRef) -> dict[str, Link]:
        return {link.name: link for link in self.links({ns})}


class WatchedHost(Host):
    """A host in two networks that has looked at everything."""

    def __init__(self, feed: ClusterFeed, kernel: WatchedKernel, directory: Path) -> None:
        super().__init__(feed, kernel, directory)
        self.kernel = kernel

    async def hear(self, *puts: Record, deletes: tuple[RecordKey, ...] = ()) -> set[NamespaceRef]:
        """Go through a cycle after a change of the cluster; return which namespaces it observed."""
        self.feed.cluster = self.feed.cluster.changed(Revision(self.feed.cluster.revision + 1), puts, deletes)
        return await self.look(frozenset())

    async def look(self, suspects: frozenset[NamespaceRef] | None) -> set[NamespaceRef]:
        self.kernel.observed.clear()
        status = await self.reconciler.cycle(suspects)
        assert (status.applied, status.problems) == (self.feed.cluster.revision, ())
        return set(self.kernel.observed)


@asynccontextmanager
async def settled(directory: Path) -> AsyncIterator[WatchedHost]:
    async with client_of(await unused_url()) as client:
        feed = ClusterFeed(client, BOTH, claims_of(client))
        feed.in_sync = True
        with closing(WatchedHost(feed, WatchedKernel(), directory)) as host:
            await host.look(None)
            yield host
            assert str(await host.reconciler.plan()) == ""


async def test_a_bookmark_executes_and_observes_nothing(tmp_path: Path) -> None:
    async with settled(tmp_path) as host:
        before = host.kernel.executed
        assert await host.hear() == set()
        assert host.kernel.executed == before


async def test_entries_of_one_network_come_and_go_without_observing(tmp_path: Path) -> None:
    async with settled(tmp_path) as host:
        before = host.kernel.executed
        assert await host.hear(NEWCOMER) == set()
        assert await host.hear(deletes=(RecordKey.of(NEWCOMER),)) == set()
        assert host.kernel.executed == before + 6, "an FDB entry, a neighbour and a route"


async def test_the_hosts_surroundings_are_read_for_what_is_chosen_by_them(tmp_path: Path) -> None:
    async with settled(tmp_path) as host:
        before = host.kernel.looked_around
        await host.hear(NEWCOMER)
        await host.look(frozenset({BLUE}))
        assert host.kernel.looked_around == before
        await host.hear(clusters.network("red", cidr="10.96.0.0/16"), clusters.block(1, "10.96.0.0/24", "red"))
        assert host.kernel.looked_around == before + 1, "a new network may divert what foreign routes lead elsewhere"
        await host.look(frozenset({HOST}))
        await host.look(None)
        assert host.kernel.looked_around == before + 3


async def test_what_stays_until_the_feed_is_in_sync_is_no_obstacle_when_it_comes_again(tmp_path: Path) -> None:
    async with settled(tmp_path) as host:
        await host.hear(NEWCOMER)
        host.feed.in_sync = False
        await host.look(None)
        before = host.kernel.executed
        assert await host.hear(deletes=(RecordKey.of(NEWCOMER),)) == {BLUE}
        assert await host.hear(NEWCOMER) == {BLUE}
        assert host.kernel.executed == before, "nothing is deleted, and nothing is made twice"
        host.feed.in_sync = True


async def test_a_network_that_others_changed_meanwhile_is_observed_and_no_other(tmp_path: Path) -> None:
    async with settled(tmp_path) as host:
        host.kernel.remove_by_hand(host.kernel.links_of(BLUE)[VXLAN])
        assert await host.hear(NEWCOMER) == {BLUE}
        assert VXLAN in host.kernel.links_of(BLUE)


async def test_a_suspicion_is_looked_at_where_it_is(tmp_path: Path) -> None:
    async with settled(tmp_path) as host:
        host.kernel.remove_by_hand(host.kernel.links_of(GREEN)[VXLAN])
        assert await host.look(host.kernel.changed()) == {GREEN}
        assert VXLAN in host.kernel.links_of(GREEN)


async def test_a_sandbox_is_never_observed(tmp_path: Path) -> None:
    async with settled(tmp_path) as host:
        web = clusters.endpoint(1, "web", "10.32.0.5")
        host.kernel.add_sandbox(web.sandbox)
        found = host.kernel.sandbox_id(web.sandbox)
        assert found
        host.records.put(Attachment(web, found))
        places = frozenset(op.item.ns for op in await host.reconciler.plan())
        assert places == {BLUE, web.sandbox}, "which are suspects after that"
        assert await host.look(places) == {BLUE}
        assert host_end(web.key) in host.kernel.links_of(BLUE)


async def test_a_resync_and_a_change_of_the_host_look_at_everything(tmp_path: Path) -> None:
    async with settled(tmp_path) as host:
        assert await host.look(None) == {HOST, BLUE, GREEN}
        assert await host.look(frozenset({HOST})) == {HOST, BLUE, GREEN}


async def test_a_network_that_goes_is_observed_and_removed(tmp_path: Path) -> None:
    async with settled(tmp_path) as host:
        gone = clusters.network("green", cidr="10.64.0.0/16")
        assert await host.hear(deletes=(RecordKey.of(gone),)) == {GREEN, HOST}
        assert host.kernel.namespaces() == {BLUE}
