"""Many attachments at once that need a cycle of the reconciler share it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.dataplane.items import NamespaceRef, State
from overlayd.model.errors import Unavailable
from overlayd.model.ids import NetworkName
from overlayd.model.network import Topology
from tests.support.agents.loopback import claims_of, client_of, unused_url
from tests.support.controllers import clusters
from tests.support.kernel.fake_kernel import FakeKernel
from tests.unit.agent.holdings.test_reports import Host

pytestmark = pytest.mark.anyio

BLUE, NOWHERE = NetworkName("blue"), NetworkName("nowhere")


class CountingKernel(FakeKernel):
    """Counts how often it is observed."""

    looks = 0

    def observe(self, namespaces: Iterable[NamespaceRef]) -> State:
        self.looks += 1
        return super().observe(namespaces)


@asynccontextmanager
async def reconciling(directory: Path, kernel: CountingKernel) -> AsyncIterator[Reconciler]:
    async with client_of(await unused_url()) as client:
        feed = ClusterFeed(client, clusters.example(Topology.ROUTED), claims_of(client))
        with closing(Host(feed, kernel, directory)) as host:
            yield host.reconciler


async def looks_of_a_cycle(directory: Path) -> int:
    kernel = CountingKernel()
    async with reconciling(directory, kernel) as reconciler:
        await reconciler.cycle()
    return kernel.looks


async def test_a_network_comes_into_force_by_one_cycle_for_all_who_wait(tmp_path: Path) -> None:
    kernel, one = CountingKernel(), await looks_of_a_cycle(tmp_path)
    async with reconciling(tmp_path, kernel) as reconciler:
        await asyncio.gather(*(reconciler.ensure(BLUE) for _ in range(100)))
        assert kernel.looks == one


async def test_a_network_that_does_not_come_costs_two_cycles_at_most(tmp_path: Path) -> None:
    kernel, one = CountingKernel(), await looks_of_a_cycle(tmp_path)
    async with reconciling(tmp_path, kernel) as reconciler:
        refused = await asyncio.gather(*(reconciler.ensure(NOWHERE) for _ in range(100)), return_exceptions=True)
        assert {type(each) for each in refused} == {Unavailable}
        assert kernel.looks <= 2 * one, "that which was going on as most of them asked, and the next one"


async def test_who_asks_while_a_cycle_goes_on_waits_for_the_next_one(tmp_path: Path) -> None:
    kernel, one = CountingKernel(), await looks_of_a_cycle(tmp_path)
    async with reconciling(tmp_path, kernel) as reconciler, asyncio.TaskGroup() as tasks:
        tasks.create_task(reconciler.refresh())
        await asyncio.sleep(0)
        late = [tasks.create_task(reconciler.refresh()) for _ in range(100)]
        await asyncio.wait(late)
        assert kernel.looks == 2 * one
