"""What a change of one network costs an agent in 50 networks of a cluster of 20,000 hosts, in processor time.

Everything that the agent does for it counts, from the line of the feed to the report and the echo of the kernel. As few
bookmarks are reported, they are measured by the second: ten come in it, as in a cluster that changes all the time.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from itertools import count
from pathlib import Path

from bench.hosts.large_cluster import HERE, OWN, REVISION, UNDERLAY
from bench.hosts.lone_agent import LoneAgent, lone_agent
from bench.hosts.process_costs import processor_seconds, until_quiet
from bench.reporting.report import Report
from overlayd.model.block import Block
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.endpoint import Endpoint
from overlayd.model.host import Host
from overlayd.model.ids import ContainerId, HostId, HostNumber, InterfaceName, MacAddress, NetworkName, Revision, Vni
from overlayd.model.network import Network, Pool, Topology
from overlayd.wire.feed import Bookmark, Delta, encode_line

HOSTS, NETWORKS = 20_000, 50
_MEMBERSHIPS = 3
"""The networks in which each other host is."""

_SEGMENTS = 10
"""Every tenth network is switched; each host has an endpoint in it."""

_BOOKMARKS = 10
"""As many as a controller sends to one host in a second at most."""

_CASES = {
    "block": "a block comes or goes in a routed network",
    "endpoint": "an endpoint comes or goes in a switched one",
    "host": "a host changes its address",
    "bookmark": "a bookmark",
}

_RANGES = list(IPv4Network("10.0.0.0/8").subnets(new_prefix=15))
_BLOCK_LENGTH = 26


async def measure(report: Report) -> None:
    hosts, networks, runs = (200, 5, 2) if report.quick else (HOSTS, NETWORKS, 40)
    members = _Members(hosts, networks)
    revisions = count(REVISION + 1)
    costs: dict[str, list[float]] = {kind: [] for kind in _CASES}
    everything = members.records()
    with tempfile.TemporaryDirectory(prefix="overlay-bench-") as name, lone_agent(Path(name), everything) as lone:
        # The periodic resync is not part of the cost of a change.
        pid = lone.start("--resync", "3600").pid.number
        first = until_quiet([pid])
        step = report.step(f"{hosts} hosts, {networks} networks", len(_CASES) * runs)
        for number in range(runs):
            for kind, taken in costs.items():
                if kind == "bookmark":
                    taken.append(_cost_of_bookmarks(lone, pid, revisions))
                else:
                    revision = next(revisions)
                    taken.append(_cost(lone, pid, members.change(kind, revision, number), revision))
                report.progress.advance(step)
    for kind, case in _CASES.items():
        report.tell(f"{HOSTS} hosts, {NETWORKS} networks/{case}", "ms", costs[kind])
    report.tell(f"{HOSTS} hosts, {NETWORKS} networks/the first start, with everything to be programmed", "s", [first])


def _cost(lone: LoneAgent, pid: int, line: bytes, revision: int) -> float:
    """Send a line of the feed to the agent; return the milliseconds of processor time until it is done with it."""
    before = processor_seconds(pid)
    lone.hear(line, revision)
    return 1e3 * (until_quiet([pid]) - before)


def _cost_of_bookmarks(lone: LoneAgent, pid: int, revisions: Iterator[int]) -> float:
    """Send a second's bookmarks; return the milliseconds of processor time for each, with the reports on them."""
    before = processor_seconds(pid)
    for _ in range(_BOOKMARKS):
        lone.say(encode_line(Bookmark(Revision(next(revisions)))))
        time.sleep(1 / _BOOKMARKS)
    return 1e3 * (until_quiet([pid]) - before) / _BOOKMARKS


class _Members:
    """The networks of the cluster, and who takes part in each, as they would come by registering one by one."""

    def __init__(self, hosts: int, networks: int) -> None:
        self.hosts = [Host(HERE, HostNumber(1), "here", OWN), *map(_host, range(2, hosts + 2))]
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
        """Return the line of the feed for one change; every second change undoes the one before it."""
        pair, undo = divmod(number, 2)
        switched = kind == "endpoint"
        those = [each for each in self.networks if (each.topology is Topology.SWITCHED) == switched]
        network = those[pair % len(those)]
        members = self.of[self.networks.index(network)]
        member = members[1 + pair % (len(members) - 1)]
        record: Record
        match kind:
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
    return Host(host, HostNumber(number), f"host-{number}", UNDERLAY[number])


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
