"""What a change of one network costs an agent in 50 networks of a cluster of 20,000 hosts; and a look at everything."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import count
from pathlib import Path

from bench.large_cluster import HERE, REVISION
from bench.report import Report
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.daemon import collect_seldom
from overlayd.agent.reconcile.checksums import Checksums
from overlayd.agent.reconcile.controller_addresses import ControllerAddresses
from overlayd.agent.reconcile.local import Local
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.dataplane.desired.firewall import Metadata
from overlayd.model.block import Block
from overlayd.model.cluster import Cluster, Record, RecordKey
from overlayd.model.endpoint import Endpoint
from overlayd.model.host import Host
from overlayd.model.ids import ContainerId, HostId, HostNumber, InterfaceName, MacAddress, NetworkName, Revision, Vni
from overlayd.model.network import Network, Pool, Topology
from overlayd.wire.feed import Bookmark, Delta, decode_line, encode_line
from tests.support.agents.loopback import claims_of, client_of, unused_url
from tests.support.kernel.hosted_kernel import HostedKernel, SimulatedHost

OWN = IPv4Interface("172.16.0.1/12")
HOSTS, NETWORKS = 20_000, 50
_MEMBERSHIPS = 3
"""The networks in which each other host is."""

_SEGMENTS = 10
"""Every tenth network is switched; each host has an endpoint in it."""

_KINDS = ("block", "endpoint", "host", "bookmark")

BUDGET, BOOKMARK_BUDGET = 20.0, 1.0
"""Milliseconds of processor time."""

_UNDERLAY = int(IPv4Address("172.16.0.0"))
_RANGES = list(IPv4Network("10.0.0.0/8").subnets(new_prefix=15))
_BLOCK_LENGTH = 26
_HOUR = 3600


async def measure(report: Report) -> None:
    collect_seldom()
    hosts, networks, runs, looks = (200, 5, 6, 2) if report.quick else (HOSTS, NETWORKS, 100, 5)
    with tempfile.TemporaryDirectory(prefix="overlay-bench-") as name, SimulatedHost(OWN) as host:
        async with client_of(await unused_url()) as client:
            members = _Members(hosts, networks)
            feed = ClusterFeed(client, Cluster().changed(REVISION, members.records()), claims_of(client))
            feed.in_sync = True
            agent = _Agent(KernelTurn(HostedKernel(host)), feed, Path(name))
            step = report.step(f"{hosts} hosts, {networks} networks", 2 + 4 * runs + looks)
            revision = count(REVISION + 1)
            first = await agent.look()
            await agent.look()
            after_look = [await agent.hear(members.change(kind, next(revision), n)) for n in (0, 1) for kind in _KINDS]
            report.progress.advance(step, 2)
            costs: dict[str, list[float]] = {kind: [] for kind in _KINDS}
            for number in range(runs):
                for kind, taken in costs.items():
                    taken.append(await agent.hear(members.change(kind, next(revision), number)))
                    report.progress.advance(step)
            everything = [await agent.look() for _ in range(looks)]
            report.progress.advance(step, looks)
            agent.close()
    what = f"{hosts} hosts, {networks} networks"
    report.bound(f"{what}/a block comes or goes in a routed network", "ms", costs["block"], BUDGET)
    report.bound(f"{what}/an endpoint comes or goes in a switched one", "ms", costs["endpoint"], BUDGET)
    report.bound(f"{what}/a bookmark", "ms", costs["bookmark"], BOOKMARK_BUDGET)
    report.tell(f"{what}/a host changes its address", "ms", costs["host"])
    report.tell(f"{what}/the first changes after a look at everything", "ms", after_look)
    report.tell(f"{what}/a look at everything", "ms", everything)
    report.tell(f"{what}/the first look, with everything to be programmed", "ms", [first])


class _Agent:
    """The part of an agent that makes a kernel match a cluster; its figures are milliseconds of processor time."""

    def __init__(self, turn: KernelTurn, feed: ClusterFeed, directory: Path) -> None:
        self._turn, self._feed = turn, feed
        controllers = ControllerAddresses(["http://172.31.255.1:7471"], directory / "controllers.json")
        local = Local(HERE, 4789, _HOUR, frozenset(), controllers, Metadata.REFUSED)
        records, checksums = AttachmentRecords(directory / "attachments"), Checksums(directory / "checksums")
        self._reconciler = Reconciler(turn, feed, records, checksums, local)

    async def look(self) -> float:
        """Look at everything."""
        before = time.process_time()
        await self._reconciler.cycle()
        return self._taken(before)

    async def hear(self, line: bytes) -> float:
        """Read a line of the feed, and go through a cycle for it."""
        before = time.process_time()
        message = decode_line(line)
        match message:
            case Delta(revision=revision, puts=puts, deletes=deletes):
                self._feed.cluster = self._feed.cluster.changed(revision, puts, deletes)
            case _:
                self._feed.cluster = self._feed.cluster.changed(message.revision)
        await self._reconciler.cycle(frozenset())
        if isinstance(message, Delta):  # the echo of its own operations is part of what they cost
            await self._turn.call(self._turn.kernel.changed)
        return self._taken(before)

    def _taken(self, before: float) -> float:
        taken = (time.process_time() - before) * 1000
        status = self._reconciler.status
        if status.problems or status.applied != self._feed.cluster.revision:
            raise RuntimeError(f"not in force: {status}")
        return taken

    def close(self) -> None:
        self._turn.close()


class _Members:
    """The networks of the cluster, and who takes part in each, as they would come by registering one by one."""

    def __init__(self, hosts: int, networks: int) -> None:
        self.hosts = [Host(HERE, HostNumber(1), "here", IPv4Address(OWN.ip)), *map(_host, range(2, hosts + 2))]
        self.networks = [_network(number) for number in range(networks)]
        self.of: list[list[Host]] = [[self.hosts[0]] for _ in self.networks]
        for host in self.hosts[1:]:
            for number in {(host.number * 7 + n * 11) % networks for n in range(_MEMBERSHIPS)}:
                self.of[number].append(host)

    def records(self) -> Iterator[Record]:
        yield from self.networks
        yield from self.hosts
        for network, members in zip(self.networks, self.of, strict=True):
            yield from (_block(network, member, place) for place, member in enumerate(members))
            if network.topology is Topology.SWITCHED:
                yield from (_endpoint(network, member, place) for place, member in enumerate(members) if place)

    def change(self, kind: str, revision: int, number: int) -> bytes:
        """Return the line of the feed that tells of one change; of each two, the second one undoes the first."""
        pair, undo = divmod(number, 2)
        switched = kind == "endpoint"
        those = [each for each in self.networks if (each.topology is Topology.SWITCHED) == switched]
        network = those[pair % len(those)]
        members = self.of[self.networks.index(network)]
        member = members[1 + pair % (len(members) - 1)]
        record: Record
        match kind:
            case "bookmark":
                return encode_line(Bookmark(Revision(revision)))
            case "host":
                moved = replace(member, address=IPv4Address(int(member.address) + len(self.hosts)))
                return encode_line(Delta(Revision(revision), (member if undo else moved,), ()))
            case "endpoint":
                record = _endpoint(network, member, len(members))
            case _:
                record = _block(network, member, len(members))
        return encode_line(Delta(Revision(revision), *(((), (RecordKey.of(record),)) if undo else ((record,), ()))))


def _host(number: int) -> Host:
    host = HostId(f"00000000-0000-4000-8000-{number:012x}")
    return Host(host, HostNumber(number), f"host-{number}", IPv4Address(_UNDERLAY + number))


def _network(number: int) -> Network:
    topology = Topology.ROUTED if number % _SEGMENTS else Topology.SWITCHED
    return Network(NetworkName(f"n{number}"), Vni(number + 1), topology, (Pool(_RANGES[number], _BLOCK_LENGTH),))


def _block(network: Network, host: Host, place: int) -> Block:
    """Return the block at this place in the network's range."""
    start = int(network.pools[0].range.network_address) + (place << 32 - _BLOCK_LENGTH)
    return Block(network.name, IPv4Network((start, _BLOCK_LENGTH)), host.id)


def _endpoint(network: Network, host: Host, place: int) -> Endpoint:
    """Return an endpoint with an address of the block at this place."""
    address = _block(network, host, place).cidr.network_address + 5
    container = ContainerId(f"c{place}")
    mac = MacAddress(f"02:00:{address.packed.hex(':')}")
    return Endpoint(network.name, container, InterfaceName("eth0"), host.id, (address,), mac, f"/run/netns/{container}")
