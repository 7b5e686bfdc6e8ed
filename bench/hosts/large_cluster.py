"""A cluster of many hosts in one routed network, as its hosts receive it."""

from ipaddress import IPv4Address, IPv4Network

from overlayd.dataplane.desired.site import Site
from overlayd.model.address import Family
from overlayd.model.block import Block
from overlayd.model.cluster import Cluster
from overlayd.model.host import Host
from overlayd.model.ids import HostId, HostNumber, NetworkName, Revision, Vni
from overlayd.model.network import Network, Pool, Topology

HERE = HostId("00000000-0000-4000-8000-000000000001")
NETWORK = Network(NetworkName("large"), Vni(1), Topology.ROUTED, (Pool(IPv4Network("10.0.0.0/8"), 24),))
REVISION = Revision(1000)
UNDERLAY = IPv4Network("172.16.0.0/12")
"""The addresses of remote hosts."""

OWN = IPv4Address("10.99.0.11")
"""The address of the first host of a lab."""


def large_cluster(remotes: int, own: IPv4Address = OWN) -> Cluster:
    """Return a cluster of this host and a number of remote hosts, each with a block of 256 addresses."""
    hosts = [Host(HERE, HostNumber(1), "here", own)]
    for number in range(2, remotes + 2):
        host = HostId(f"00000000-0000-4000-8000-{number:012x}")
        hosts.append(Host(host, HostNumber(number), f"host-{number}", UNDERLAY[number]))
    blocks = [Block(NETWORK.name, IPv4Network(((10 << 24) + host.number * 256, 24)), host.id) for host in hosts]
    return Cluster().changed(REVISION, [NETWORK, *hosts, *blocks])


def site() -> Site:
    return Site(HERE, Family.V4, 1500, 4789)
