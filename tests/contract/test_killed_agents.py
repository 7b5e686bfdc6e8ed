"""An agent that is killed at any step of an ADD or a DEL leaves nothing that the next request does not mend."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from overlayd.agent.addressing import Addressing
from overlayd.agent.attachments import Attachments
from overlayd.agent.checksums import Checksums
from overlayd.agent.client import ControllerClient
from overlayd.agent.collection import Collector
from overlayd.agent.feed import ClusterFeed
from overlayd.agent.held_blocks import HeldBlocks
from overlayd.agent.held_reservations import HeldReservations
from overlayd.agent.kernel_turn import KernelTurn
from overlayd.agent.publication import Publication
from overlayd.agent.reconcile import Local, Reconciler
from overlayd.agent.resting import RestingAddresses
from overlayd.dataplane.endpoint import resolve_endpoint
from overlayd.dataplane.items import NamespaceRef, State
from overlayd.model.errors import AlreadyExists
from overlayd.model.ids import ContainerId, InterfaceName, NetworkName
from overlayd.model.network import Topology
from overlayd.wire.cni import Command, GcRequest, Request
from overlayd.wire.feed import InSync, Snapshot
from tests.contract.kernels import World, observed
from tests.support.clusters import HERE, example, site
from tests.support.mortal import Died, Life, MortalKernel, MortalRecords
from tests.unit.agent.loopback import client_of, controller, following, in_sync, unused_url

pytestmark = pytest.mark.anyio

BLUE = NetworkName("blue")
LONG = 1_000
"""Steps of a life that ends with its work done."""


class Agent:
    """An agent that finds what the one before it left."""

    def __init__(self, world: World, directory: Path, feed: ClusterFeed, client: ControllerClient) -> None:
        self.life = Life(LONG)
        self._kernel = MortalKernel(world.kernel, self.life)
        self._turn = KernelTurn(self._kernel)
        self.records = MortalRecords(directory / "attachments", self.life)
        self.records.load()
        reconciler = Reconciler(
            self._turn, feed, self.records, Checksums(directory / "checksums"), Local(HERE, 4789, 3600)
        )
        self._reconciler = reconciler
        blocks = HeldBlocks(HERE, client, feed, self.records)
        reservations = HeldReservations(client, feed, self.records, Publication(client, feed, self.records))
        addressing = Addressing(self.records, blocks, reservations, RestingAddresses(lambda: 0.0))
        self.attachments = Attachments(self._turn, self.records, blocks, addressing, reconciler)
        self._collector = Collector(self.attachments.detach, self.records)

    async def start(self) -> None:
        await self._turn.call(self._kernel.reap, self._kernel.namespaces())
        await self._reconciler.cycle()

    async def collect(self) -> None:
        """Execute a GC that lists nothing."""
        await self._collector.collect(self._collector.stale(GcRequest("1.1.0", BLUE, frozenset())))

    def close(self) -> None:
        self._turn.close()


def asked(command: Command, container: str, sandbox: str = "") -> Request:
    return Request(command, "1.1.0", BLUE, ContainerId(container), InterfaceName("eth0"), sandbox, BLUE)


class Host:
    """A host on which agents die, one after the other, while the feed says the same to all of them."""

    def __init__(self, world: World, directory: Path, feed: ClusterFeed, client: ControllerClient) -> None:
        self.world = world
        self._directory = directory
        self._feed = feed
        self._client = client

    @asynccontextmanager
    async def agent(self, steps: int = LONG) -> AsyncIterator[Agent]:
        """Run an agent that dies after so many steps of what it does once it is up."""
        self.world.restart_agent()
        agent = Agent(self.world, self._directory, self._feed, self._client)
        reaping = asyncio.create_task(agent.attachments.reaper.run())
        try:
            await agent.start()
            agent.life.steps = steps
            yield agent
        finally:
            reaping.cancel()
            with suppress(asyncio.CancelledError, Died):
                await reaping
            agent.close()


@pytest.fixture(params=list(Topology))
def topology(request: pytest.FixtureRequest) -> Topology:
    return Topology(request.param)


@pytest.fixture(params=["controllers away", pytest.param("in sync", marks=pytest.mark.thorough)])
async def host(request: pytest.FixtureRequest, world: World, tmp_path: Path, topology: Topology) -> AsyncIterator[Host]:
    """A host that knows the example. While controllers are away, its agents delete nothing that they do not know."""
    known = example(topology)
    if request.param == "controllers away":
        async with client_of(await unused_url()) as client:
            yield Host(world, tmp_path, ClusterFeed(client, known), client)
        return
    async with controller() as server, following(server) as feed, client_of(server) as client:
        await (await server.feeds.get()).send(Snapshot(known.revision, tuple(known.records)), InSync(known.revision))
        await in_sync(feed)
        yield Host(world, tmp_path, feed, client)


def is_in_force(world: World, topology: Topology, agent: Agent) -> bool:
    """Tell whether everything that the records say is in the kernel."""
    (network,) = example(topology).networks.values()
    items: State = frozenset().union(
        *(resolve_endpoint(network, each, site().mtu) for each in agent.records.endpoints),
    )
    return not world.kernel.missing(items)


async def add_after(agent: Agent, container: str, sandbox: str) -> None:
    """Let a runtime ask again: where it gets no answer, a DEL comes first (CNI SPEC, section "DEL")."""
    try:
        await agent.attachments.attach(asked(Command.ADD, container, sandbox))
    except AlreadyExists:
        await agent.attachments.detach(asked(Command.DEL, container, sandbox))
        await agent.attachments.attach(asked(Command.ADD, container, sandbox))


MENDS = ("add", "del", "del without a sandbox", "gc")


async def mend(agent: Agent, how: str, container: str, sandbox: str) -> None:
    match how:
        case "add":
            await add_after(agent, container, sandbox)
        case "del":
            await agent.attachments.detach(asked(Command.DEL, container, sandbox))
        case "del without a sandbox":
            await agent.attachments.detach(asked(Command.DEL, container))
        case _:
            await agent.collect()


async def killed(on: Host, command: Command, steps: int, container: str, sandbox: str) -> bool:
    """Let an agent die at a step of a request; tell whether it did before the request was done."""
    async with on.agent() as agent:
        if command is Command.DEL:
            await agent.attachments.attach(asked(Command.ADD, container, sandbox))
        agent.life.steps = steps
        try:
            if command is Command.ADD:
                await agent.attachments.attach(asked(command, container, sandbox))
            else:
                await agent.attachments.detach(asked(command, container, sandbox))
        except Died:
            return True
    return False


@pytest.mark.parametrize("command", [Command.ADD, Command.DEL])
@pytest.mark.parametrize("how", MENDS)
async def test_the_next_request_mends_whatever_a_killed_agent_left(
    host: Host, topology: Topology, command: Command, how: str
) -> None:
    async with host.agent():
        pass  # the network is in force then
    empty = observed(host.world)
    for steps in count():
        container, sandbox = f"c{steps}", f"/run/netns/c{steps}"
        host.world.add_sandbox(sandbox)
        died = await killed(host, command, steps, container, sandbox)
        async with host.agent() as agent:
            await mend(agent, how, container, sandbox)
            if how == "add":
                assert is_in_force(host.world, topology, agent)
                await agent.attachments.detach(asked(Command.DEL, container, sandbox))
            assert agent.records.endpoints == ()
            host.world.kernel.reap(host.world.kernel.namespaces())
        assert observed(host.world) == empty
        assert host.world.devices(NamespaceRef(sandbox)) == {"lo"}
        if not died:
            assert steps > (1 if command is Command.DEL else 7)
            break


async def test_a_killed_agent_is_in_nobody_elses_way(host: Host, topology: Topology) -> None:
    for steps in count():
        container, sandbox, other = f"c{steps}", f"/run/netns/c{steps}", f"/run/netns/other{steps}"
        host.world.add_sandbox(sandbox)
        host.world.add_sandbox(other)
        died = await killed(host, Command.ADD, steps, container, sandbox)
        async with host.agent() as agent:
            await agent.attachments.attach(asked(Command.ADD, f"other{steps}", other))
            assert is_in_force(host.world, topology, agent)
            addresses = [address for each in agent.records.endpoints for address in each.addresses]
            assert len(addresses) == len(set(addresses))
            await agent.collect()
        if not died:
            break
