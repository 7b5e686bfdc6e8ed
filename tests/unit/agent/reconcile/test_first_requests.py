"""After a restart an attachment waits for a look at the devices of its own network, and not for one at everything."""

import asyncio
import errno
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.records.attachment_records import Attachment
from overlayd.dataplane.items import Link, NamespaceRef, State, network_namespace
from overlayd.dataplane.ownership import VXLAN
from overlayd.dataplane.plan import Plan
from overlayd.kernel.port import Outcome
from overlayd.model.errors import Unavailable
from overlayd.model.ids import NetworkName, Revision
from tests.support.agents.loopback import claims_of, client_of, running, unused_url
from tests.support.controllers import clusters
from tests.support.kernel.fake_kernel import FakeKernel
from tests.unit.agent.holdings.test_reports import Host

pytestmark = pytest.mark.anyio

BLUE, GREEN = NetworkName("blue"), NetworkName("green")
CLUSTER = clusters.cluster(
    [
        clusters.network("blue"),
        clusters.network("green", cidr="10.64.0.0/16"),
        *(clusters.host(number) for number in (1, 2)),
        clusters.block(1, "10.32.0.0/24"),
        clusters.block(2, "10.32.1.0/24"),
        clusters.block(1, "10.64.0.0/24", "green"),
    ]
)


class WatchedKernel(FakeKernel):
    """Counts the looks at namespaces, and at single items."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = self.glances = self.executed_plans = 0

    def observe(self, namespaces: Iterable[NamespaceRef]) -> State:
        asked = frozenset(namespaces)
        self.looks += bool(asked)
        return super().observe(asked)

    def missing(self, items: State) -> State:
        self.glances += 1
        return super().missing(items)

    def apply(self, plan: Plan) -> tuple[Outcome, ...]:
        self.executed_plans += bool(plan)
        return super().apply(plan)

    def tunnel(self, network: NetworkName) -> Link:
        (link,) = (link for link in self.links({network_namespace(network)}) if link.name == VXLAN)
        return link


@asynccontextmanager
async def restarted(directory: Path) -> AsyncIterator[tuple[Host, WatchedKernel]]:
    """Let one agent bring the cluster into force, and return another one that has not looked at anything."""
    kernel = WatchedKernel()
    async with client_of(await unused_url()) as client:
        feed = ClusterFeed(client, CLUSTER, claims_of(client))
        with closing(Host(feed, kernel, directory)) as before:
            await before.cycle()
        kernel.looks = kernel.executed_plans = 0
        with closing(Host(ClusterFeed(client, CLUSTER, claims_of(client)), kernel, directory)) as host:
            yield host, kernel


async def test_a_network_in_force_is_found_so_without_a_look_at_everything(tmp_path: Path) -> None:
    async with restarted(tmp_path) as (host, kernel):
        await asyncio.gather(*(host.reconciler.ensure(BLUE) for _ in range(20)))
        assert (kernel.looks, kernel.glances, kernel.executed_plans) == (0, 1, 0)
        assert host.reconciler.mtu > 0
        assert host.reconciler.networks == (), "that is known of all networks at once"
        await host.reconciler.ensure(GREEN)
        assert (kernel.looks, kernel.glances) == (0, 2)


async def test_a_network_whose_device_went_is_brought_into_force_first(tmp_path: Path) -> None:
    async with restarted(tmp_path) as (host, kernel):
        kernel.remove_by_hand(kernel.tunnel(BLUE))
        await host.reconciler.ensure(BLUE)
        assert kernel.looks > 0
        assert kernel.tunnel(BLUE).name == VXLAN


async def test_a_network_that_cannot_be_looked_at_is_no_network_in_force(tmp_path: Path) -> None:
    async with restarted(tmp_path) as (host, kernel):
        kernel.failing = errno.EMFILE
        with pytest.raises(Unavailable):
            await host.reconciler.ensure(BLUE)
        kernel.failing = None
        await host.reconciler.ensure(BLUE)
        assert kernel.looks > 0


async def test_a_network_without_a_block_here_is_not_in_force(tmp_path: Path) -> None:
    async with restarted(tmp_path) as (host, kernel):
        with pytest.raises(Unavailable, match="no block on this host"):
            await host.reconciler.ensure(NetworkName("red"))
        assert kernel.looks > 0


async def test_the_first_look_at_everything_comes_after_an_attachment_that_waits(tmp_path: Path) -> None:
    async with restarted(tmp_path) as (host, kernel):
        host.feed.in_sync = True
        host.feed.syncs.set()
        waiting = asyncio.create_task(host.reconciler.ensure(BLUE))
        await asyncio.sleep(0)
        async with running(host.reconciler.run()):
            await waiting
            assert kernel.looks == 0
            while host.reconciler.status.applied != CLUSTER.revision:
                await host.reconciler.reports.wait(host.reconciler.reports.count)
        assert kernel.looks > 0


async def test_rules_that_nothing_describes_are_kept_from_the_beginning(tmp_path: Path) -> None:
    async with restarted(tmp_path) as (host, kernel):
        lost = clusters.endpoint(1, "web", "10.96.0.5", "lost")
        kernel.add_sandbox(lost.sandbox)
        found = kernel.sandbox_id(lost.sandbox)
        assert found
        host.records.put(Attachment(lost, found))
        await host.reconciler.ensure(BLUE)
        assert kernel.looks == 1, "at what is left of the lost network"
        assert host.reconciler.keeps_rules


async def test_after_a_look_at_everything_single_networks_are_not_looked_at(tmp_path: Path) -> None:
    async with restarted(tmp_path) as (host, kernel):
        await host.cycle()
        kernel.glances = 0
        await host.reconciler.ensure(BLUE)
        assert kernel.glances == 0
        assert host.reconciler.status.applied == Revision(CLUSTER.revision)
