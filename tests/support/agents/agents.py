"""Agents in this process, on a kernel of the contract's suite; each finds what the one before it left."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from overlayd.agent.attach.addressing import Addressing
from overlayd.agent.attach.attachments import Attachments
from overlayd.agent.attach.request import AttachmentName, AttachRequest
from overlayd.agent.cni.collection import Collector
from overlayd.agent.cni.del_queue import del_queue
from overlayd.agent.cni.readiness import Readiness
from overlayd.agent.cni.server import CniServer
from overlayd.agent.controllers.client import ControllerClient
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.controllers.problem import Problem
from overlayd.agent.holdings.blocks import HeldBlocks
from overlayd.agent.holdings.publication import Publication
from overlayd.agent.holdings.reservations import HeldReservations
from overlayd.agent.reconcile.checksums import Checksums
from overlayd.agent.reconcile.controller_addresses import ControllerAddresses
from overlayd.agent.reconcile.local import Local
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.reconcile.report import Status
from overlayd.agent.records.held_addresses import HeldAddresses
from overlayd.agent.records.quarantine import RestingAddresses
from overlayd.agent.records.recovery import recover
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.dataplane.desired.firewall import Metadata
from overlayd.model.cluster import RecordKey
from overlayd.model.ids import ContainerId, InterfaceName, NetworkName, Revision
from overlayd.model.network import Network
from overlayd.wire.cni.requests import Command, GcRequest
from tests.support.agents.mortal import Died, Life, MortalKernel, MortalRecords
from tests.support.controllers.clusters import HERE
from tests.support.kernel.worlds import World

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
        checksums = Checksums(directory / "checksums")
        controllers = ControllerAddresses(["http://192.0.2.250:7471"], directory / "controllers.json")
        local = Local(HERE, 4789, 3600, frozenset(), controllers, Metadata.REFUSED)
        reconciler = Reconciler(self._turn, feed, self.records, checksums, local)
        self._reconciler = reconciler
        blocks = HeldBlocks(HERE, client, feed, self.records)
        reservations = HeldReservations(
            client, feed, self.records, Publication(client, feed, self.records, lambda _: None)
        )
        addressing = Addressing(
            self.records,
            blocks,
            reservations,
            RestingAddresses(directory / "resting", lambda: 0.0),
            HeldAddresses(directory / "held"),
        )
        self.attachments = Attachments(self._turn, self.records, blocks, addressing, reconciler)
        self._collector = Collector(self.attachments.detach, self.records)
        self.queue = del_queue(directory / "del-queue", self.attachments.detach)
        readiness = Readiness(blocks, addressing, reconciler.ensure, client)
        self.cni = CniServer(self.attachments, self._collector, readiness, self.queue)

    async def start(self) -> None:
        await self._turn.call(self._kernel.reap, self._kernel.namespaces())
        await self._turn.call(recover, self._kernel, HERE, self.records, {})
        await self._reconciler.cycle()

    async def cycle(self) -> Status:
        return await self._reconciler.cycle()

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self._reconciler.status.problems

    async def collect(self) -> None:
        """Execute a GC that lists nothing."""
        await self._collector.collect(GcRequest("1.1.0", BLUE, frozenset()))

    def close(self) -> None:
        self._turn.close()


def named(container: str) -> AttachmentName:
    return AttachmentName(BLUE, ContainerId(container), InterfaceName("eth0"))


def asked(container: str, sandbox: str) -> AttachRequest:
    return AttachRequest(named(container), sandbox, owner=BLUE)


def frame(command: Command, container: str, sandbox: str = "") -> bytes:
    """Return the same request as the launcher sends it."""
    variables = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": sandbox,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
    }
    head = "".join(f"{name}={value}\0" for name, value in variables.items())
    return f"{head}\0{json.dumps({'cniVersion': '1.1.0', 'name': BLUE, 'type': 'overlayd'})}".encode()


class Host:
    """A host on which agents die, one after the other, while the feed says the same to all of them."""

    def __init__(self, world: World, directory: Path, feed: ClusterFeed, client: ControllerClient) -> None:
        self.world = world
        self._directory = directory
        self._feed = feed
        self._client = client

    def forget(self, network: NetworkName) -> None:
        """Let the controllers forget a network."""
        self._feed.cluster = self._feed.cluster.changed(Revision(2), (), [RecordKey(Network, network)])

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
