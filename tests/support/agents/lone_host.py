"""A host without any controller, with all that attaches containers, on the fake kernel and in virtual time."""

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from overlayd.agent.attach.addressing import Addressing
from overlayd.agent.attach.attachments import Attachments
from overlayd.agent.attach.request import AttachmentName, AttachRequest
from overlayd.agent.controllers.client import ControllerClient, Controllers
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.holdings.blocks import HeldBlocks
from overlayd.agent.holdings.publication import Publication
from overlayd.agent.holdings.reservations import HeldReservations
from overlayd.agent.reconcile.checksums import Checksums
from overlayd.agent.reconcile.controller_addresses import ControllerAddresses
from overlayd.agent.reconcile.local import Local
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.records.held_addresses import HeldAddresses
from overlayd.agent.records.quarantine import RestingAddresses
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.dataplane.desired.firewall import Metadata
from overlayd.dataplane.items import NamespaceRef, network_namespace
from overlayd.model.address import Family, IpNetwork
from overlayd.model.block import Block
from overlayd.model.cluster import Record
from overlayd.model.errors import Exhausted
from overlayd.model.ids import ContainerId, InterfaceName, NetworkName
from overlayd.model.network import Uplink
from tests.support.agents.loopback import IDENTITY, claims_of
from tests.support.agents.virtual_time import VirtualTimeLoop
from tests.support.controllers import clusters
from tests.support.kernel.fake_kernel import FakeKernel

T = TypeVar("T")

BLUE, GREEN = NetworkName("blue"), NetworkName("green")
URL = "http://192.0.2.250:7471"
KNOWN: tuple[Record, ...] = (
    clusters.host(1),
    replace(clusters.network("blue", cidr="10.32.0.0/24", block_length=29), uplink=Uplink.ISOLATED),
    replace(clusters.network("green", cidr="10.64.0.0/24", block_length=29), uplink=Uplink.NONE),
    clusters.block(1, "10.32.0.0/29"),
    clusters.block(1, "10.64.0.0/29", "green"),
)
"""Two networks, with a block of eight addresses each on this host."""


class NoMoreBlocks(ControllerClient):
    """Controllers whose networks are full."""

    async def acquire_block(self, network: NetworkName, held: Iterable[IpNetwork], family: Family) -> Block:
        del held
        await asyncio.sleep(0)
        raise Exhausted(f"network {network} has no free IPv{family} block")


def sandbox_of(container: str) -> str:
    return f"/run/netns/{container}"


def named(container: str, network: NetworkName = BLUE, interface: str = "eth0") -> AttachmentName:
    return AttachmentName(network, ContainerId(container), InterfaceName(interface))


def asked(container: str, network: NetworkName = BLUE, interface: str = "eth0") -> AttachRequest:
    return AttachRequest(named(container, network, interface), sandbox_of(container), owner=network)


class LoneHost:
    """The parts of an agent that attach, and the loop in which they run."""

    def __init__(self, directory: Path, loop: VirtualTimeLoop | None = None) -> None:
        self.loop = loop or VirtualTimeLoop()
        self.kernel = FakeKernel()
        self.turn = KernelTurn(self.kernel)
        self.records = AttachmentRecords(directory / "attachments")
        client = NoMoreBlocks(Controllers([URL]), IDENTITY, None)
        self.feed = ClusterFeed(client, clusters.cluster(KNOWN), claims_of(client))
        controllers = ControllerAddresses([URL], directory / "controllers.json")
        local = Local(clusters.HERE, 4789, 3600, frozenset(), controllers, Metadata.REFUSED)
        self.reconciler = Reconciler(self.turn, self.feed, self.records, Checksums(directory / "checksums"), local)
        self.blocks = blocks = HeldBlocks(clusters.HERE, client, self.feed, self.records)
        self.publication = publication = Publication(client, self.feed, self.records, lambda _: None)
        reservations = HeldReservations(client, self.feed, self.records, publication)
        resting = RestingAddresses(directory / "resting", self.loop.time)
        self.addressing = addressing = Addressing(
            self.records, blocks, reservations, resting, HeldAddresses(directory / "held")
        )
        self.attachments = Attachments(self.turn, self.records, blocks, addressing, self.reconciler)
        self._client = client
        self._actors = [
            self.loop.create_task(self.attachments.reaper.run()),
            self.loop.create_task(self.attachments.announcements.run()),
        ]
        self.run(self.reconciler.cycle())

    def run(self, work: Coroutine[None, None, T]) -> T:
        return self.loop.run_until_complete(work)

    def devices(self, network: NetworkName = BLUE) -> set[str]:
        """Return the devices of containers in a network's namespace, those out of use included."""
        return {name for name in self.kernel.devices(network_namespace(network)) if name.startswith(("ve", "rv"))}

    def inside(self, container: str) -> set[str]:
        """Return the devices in a container's sandbox."""
        return self.kernel.devices(NamespaceRef(sandbox_of(container)))

    def close(self) -> None:
        for actor in self._actors:
            actor.cancel()
        self.run(asyncio.wait_for(asyncio.gather(*self._actors, return_exceptions=True), 10))
        self.run(self._client.close())
        self.turn.close()
        self.loop.close()
