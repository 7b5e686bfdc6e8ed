"""From what the cluster says and the workloads of this host to the desired state. Pure."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from overlayd.dataplane import firewall, ownership
from overlayd.dataplane.items import (
    FLOOD,
    Address,
    Bridge,
    BridgeEntry,
    BridgePort,
    FdbEntry,
    Item,
    Link,
    Loopback,
    Namespace,
    NamespaceRef,
    Neighbour,
    Route,
    State,
    Veth,
    VethPeer,
    Vxlan,
    network_namespace,
)
from overlayd.model.block import Block
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.host import Host
from overlayd.model.ids import HostId, InterfaceName, MacAddress
from overlayd.model.network import Network, Topology

VXLAN_OVERHEAD = 50
"""Bytes that encapsulation over IPv4 adds: inner Ethernet 14, VXLAN 8, UDP 8, IPv4 20 (RFC 7348 section 5)."""

UNREACHABLE_METRIC = 1 << 31
"""Above every host number, so that a block's route always comes before the network's unreachable route."""

_ROUTED_SYSCTLS = frozenset(
    {
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.conf.all.rp_filter", "1"),
        ("net.ipv4.conf.default.rp_filter", "1"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.default.send_redirects", "0"),
    }
)
_WITHOUT_IPV6 = frozenset({("net.ipv6.conf.all.disable_ipv6", "1"), ("net.ipv6.conf.default.disable_ipv6", "1")})

_OVERLAY_PORT = BridgePort(ownership.BRIDGE, learning=False, unicast_flood=False, neigh_suppress=True)
_WORKLOAD_PORT = BridgePort(ownership.BRIDGE, learning=False, unicast_flood=False, neigh_suppress=False)


@dataclass(frozen=True, slots=True)
class Site:
    """What holds on this host alone: its id, the underlay's MTU in bytes, and the VXLAN port in host byte order."""

    host: HostId
    underlay_mtu: int
    vxlan_port: int

    @property
    def mtu(self) -> int:
        """The MTU of every device of an overlay network, in bytes."""
        return self.underlay_mtu - VXLAN_OVERHEAD


def host_end(endpoint: EndpointKey) -> InterfaceName:
    """Return the name of the host's end of an endpoint's veth pair; it depends on container and interface alone."""
    *_, container, interface = endpoint
    digest = hashlib.blake2s(f"{container}\0{interface}".encode(), digest_size=6).hexdigest()
    return InterfaceName(ownership.VETH_PREFIX + digest)


def resolve(cluster: Cluster, site: Site, endpoints: Iterable[Endpoint]) -> State:
    """Return what this host's kernel should hold: its networks, the way to their other hosts, and its endpoints.

    A host takes part in a network while it owns a block of it. Local endpoints come from the host itself (`endpoints`)
    and never from the cluster, so that attachments go on while every controller is away.
    """
    local = list(endpoints)
    host = cluster.hosts.get(site.host)
    if host is None:
        return frozenset()
    blocks: dict[str, list[Block]] = {}
    for block in cluster.blocks.values():
        blocks.setdefault(block.network, []).append(block)
    items: list[Item] = []
    joined: list[Network] = []
    for network in cluster.networks.values():
        held = blocks.get(network.name, [])
        if any(block.host == site.host for block in held):
            joined.append(network)
            items.extend(_network(network, host, site))
            items.extend(_remote_hosts(network, held, cluster, site))
            for endpoint in local:
                if endpoint.network == network.name:
                    items.extend(resolve_endpoint(network, endpoint, site.mtu))
            items.extend(_remote_endpoints(network, cluster, site))
    if joined:
        vteps = {other.address for other in cluster.hosts.values() if other.id != site.host}
        items.append(firewall.vxlan_table((network.vni for network in joined), vteps, site.vxlan_port))
    return _one_for_each_key(items)


def _one_for_each_key(items: Iterable[Item]) -> State:
    """Return the first item for each key: the kernel has one place for it.

    Two endpoints may claim one MAC or address, above all while a container moves. What is on this host comes first, and
    then one host comes always before the other, so that the state does not swing.
    """
    found: dict[tuple[object, ...], Item] = {}
    for item in items:
        found.setdefault(item.key, item)
    return frozenset(found.values())


def resolve_endpoint(network: Network, endpoint: Endpoint, mtu: int) -> State:
    """Return the part of the desired state that one local endpoint adds: both ends of its veth pair (MTU in bytes)."""
    ns = network_namespace(network.name)
    dev = host_end(endpoint.key)
    sandbox = NamespaceRef(endpoint.sandbox)
    kind = Veth(VethPeer(sandbox, endpoint.interface, endpoint.mac))
    inside: list[Item] = [
        Link(sandbox, ownership.LOOPBACK, Loopback(), None, None),
        Link(sandbox, endpoint.interface, Veth(), endpoint.mac, mtu),
    ]
    if network.topology is Topology.ROUTED:
        return frozenset(
            [
                *inside,
                *(Address(sandbox, endpoint.interface, IPv4Interface(address)) for address in ipv4_addresses(endpoint)),
                Neighbour(sandbox, endpoint.interface, ownership.GATEWAY, ownership.GATEWAY_MAC),
                *(
                    Route(sandbox, whole, endpoint.interface, ownership.GATEWAY, metric=0)
                    for whole in ipv4_ranges(network)
                ),
                Link(ns, dev, kind, ownership.GATEWAY_MAC, mtu),
                *(Neighbour(ns, dev, address, endpoint.mac) for address in ipv4_addresses(endpoint)),
                *(Route(ns, IPv4Network(address), dev, None, metric=0) for address in ipv4_addresses(endpoint)),
            ]
        )
    return frozenset(
        [
            *inside,
            *(
                Address(sandbox, endpoint.interface, IPv4Interface((address, _prefix_length(network, address))))
                for address in ipv4_addresses(endpoint)
            ),
            Link(ns, dev, kind, _port_mac(dev), mtu, port=_WORKLOAD_PORT),
            BridgeEntry(ns, ownership.BRIDGE, endpoint.mac, dev),
            *(Neighbour(ns, ownership.BRIDGE, address, endpoint.mac) for address in ipv4_addresses(endpoint)),
        ]
    )


def ipv4_addresses(endpoint: Endpoint) -> tuple[IPv4Address, ...]:
    """Return the addresses of an endpoint that this dataplane carries."""
    return tuple(address for address in endpoint.addresses if isinstance(address, IPv4Address))


def ipv4_ranges(network: Network) -> tuple[IPv4Network, ...]:
    """Return the ranges of a network that this dataplane carries."""
    return tuple(pool.range for pool in network.pools if isinstance(pool.range, IPv4Network))


def _prefix_length(network: Network, address: IPv4Address) -> int:
    # An address that a network of this name no longer holds stays usable by itself.
    return next((whole.prefixlen for whole in ipv4_ranges(network) if address in whole), 32)


def _network(network: Network, host: Host, site: Site) -> Iterator[Item]:
    """Yield the network's namespace, its devices and what does not depend on other hosts."""
    ns = network_namespace(network.name)
    vxlan = Vxlan(network.vni, host.address, site.vxlan_port)
    yield Link(ns, ownership.LOOPBACK, Loopback(), None, None)
    if network.topology is Topology.ROUTED:
        yield Namespace(ns, _ROUTED_SYSCTLS | _WITHOUT_IPV6)
        yield Address(ns, ownership.LOOPBACK, IPv4Interface(ownership.GATEWAY))
        yield Link(ns, ownership.VXLAN, vxlan, host.vtep.mac, site.mtu)
        for whole in ipv4_ranges(network):
            yield Route(ns, whole, None, None, UNREACHABLE_METRIC)
    else:
        yield Namespace(ns, _WITHOUT_IPV6)
        yield Link(ns, ownership.BRIDGE, Bridge(), ownership.GATEWAY_MAC, site.mtu)
        yield Link(ns, ownership.VXLAN, vxlan, host.vtep.mac, site.mtu, port=_OVERLAY_PORT)


def _remote_hosts(network: Network, blocks: Iterable[Block], cluster: Cluster, site: Site) -> Iterator[Item]:
    """Yield the way to each other host: in a routed network to its blocks, in a switched one for broadcasts."""
    ns = network_namespace(network.name)
    for block in blocks:
        remote = cluster.hosts.get(block.host)
        if remote is None or remote.id == site.host:
            continue
        if network.topology is Topology.SWITCHED:
            yield FdbEntry(ns, ownership.VXLAN, FLOOD, remote.address)
            continue
        vtep = remote.vtep
        yield FdbEntry(ns, ownership.VXLAN, vtep.mac, vtep.address)
        yield Neighbour(ns, ownership.VXLAN, vtep.next_hop, vtep.mac)
        # Without a metric of its own per host, inserting N routes on one device costs the kernel N² comparisons.
        if isinstance(block.cidr, IPv4Network):
            yield Route(ns, block.cidr, ownership.VXLAN, vtep.next_hop, metric=remote.number)


def _remote_endpoints(network: Network, cluster: Cluster, site: Site) -> Iterator[Item]:
    """Yield where each endpoint of another host is, in a switched network."""
    if network.topology is Topology.ROUTED:
        return
    ns = network_namespace(network.name)
    for _, endpoint in sorted(cluster.endpoints.items()):
        remote = cluster.hosts.get(endpoint.host)
        if endpoint.network != network.name or remote is None or remote.id == site.host:
            continue
        yield FdbEntry(ns, ownership.VXLAN, endpoint.mac, remote.address)
        yield BridgeEntry(ns, ownership.BRIDGE, endpoint.mac, ownership.VXLAN)
        for address in ipv4_addresses(endpoint):
            yield Neighbour(ns, ownership.BRIDGE, address, endpoint.mac)


def _port_mac(dev: InterfaceName) -> MacAddress:
    """Return a locally administered MAC for a bridge port: a bridge wants a different one on each of its ports."""
    octets = b"\x02" + hashlib.blake2s(dev.encode(), digest_size=5).digest()
    return MacAddress(octets.hex(":"))
