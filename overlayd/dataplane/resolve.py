"""From what the cluster says and the workloads of this host to the desired state. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from overlayd.dataplane import firewall, ownership, uplink
from overlayd.dataplane.endpoint import as_mtu_allows, resolve_endpoint, resolve_limits, without_guard, without_sandbox
from overlayd.dataplane.items import (
    FLOOD,
    HOST,
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
    SoftwareChecksums,
    State,
    Sysctl,
    Vxlan,
    network_namespace,
)
from overlayd.model import ids
from overlayd.model.address import Family, IpAddress, IpNetwork, alone, interface
from overlayd.model.bandwidth import Bandwidth
from overlayd.model.block import Block
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.host import Host, Vtep
from overlayd.model.ids import HostId, InterfaceName, NetworkName
from overlayd.model.lifelines import Lifeline, Lifelines, of_hosts
from overlayd.model.network import Network, Topology, Uplink
from overlayd.model.published_port import Published
from overlayd.model.reservation import Reservation, lost_addresses, shared_addresses

VXLAN_OVERHEAD: Mapping[Family, int] = MappingProxyType({Family.V4: 50, Family.V6: 70})
"""Bytes that encapsulation adds over each family: inner Ethernet 14, VXLAN 8, UDP 8, IPv4 20 or IPv6 40 (RFC 7348
section 5)."""

UNREACHABLE_METRIC = 1 << 31
"""Above every host number, so that a block's route always comes before the network's unreachable route."""

_ROUTED_SYSCTLS = frozenset(
    {
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.conf.default.forwarding", "1"),
        ("net.ipv4.conf.all.rp_filter", "1"),
        ("net.ipv4.conf.default.rp_filter", "1"),
        ("net.ipv4.conf.all.send_redirects", "0"),
        ("net.ipv4.conf.default.send_redirects", "0"),
    }
)
_WITHOUT_IPV6 = frozenset({("net.ipv6.conf.all.disable_ipv6", "1"), ("net.ipv6.conf.default.disable_ipv6", "1")})

_WITH_IPV6 = frozenset(
    {
        ("net.ipv6.conf.all.addr_gen_mode", "1"),
        ("net.ipv6.conf.default.addr_gen_mode", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv6.conf.default.forwarding", "1"),
    }
)
"""No addresses but ours; and whoever forwards believes no router advertisement (linux: ip-sysctl, accept_ra)."""

_OVERLAY_PORT = BridgePort(ownership.BRIDGE, learning=False, unicast_flood=False, neigh_suppress=True)


@dataclass(frozen=True, slots=True)
class Site:
    """What holds on this host alone: its id, the underlay's family and MTU in bytes, the VXLAN port, foreign routes.

    The port is in host byte order. `foreign_routes` are where the host's routes lead that are not ours, and `lifelines`
    what it must go on to reach or to have besides the other hosts; `forgotten` are networks that containers here still
    use, and the cluster does not know any more, or not on this host;
    `kept_uplinks` are the host's ends of uplinks of those of which nothing else is known; `published` are
    the host's ports that lead to its containers, and `bandwidths` what those endpoints may send and receive that are
    limited; `unguarded` are those whose device has no filter, and `out_of_reach` those whose sandbox lives where no
    path leads; with `software_checksums` the underlay cannot make those of what is in the tunnel; `former_vxlan_ports`
    are what the port was before, which other hosts may still have; `ways_out` are the devices of the default routes;
    `metadata` is what containers may ask a cloud.
    """

    host: HostId
    underlay: Family
    underlay_mtu: int
    vxlan_port: int
    foreign_routes: frozenset[IpNetwork] = frozenset()
    lifelines: frozenset[Lifeline] = frozenset()
    forgotten: tuple[Network, ...] = ()
    kept_uplinks: frozenset[InterfaceName] = frozenset()
    published: tuple[Published, ...] = ()
    bandwidths: tuple[tuple[Endpoint, Bandwidth], ...] = ()
    unguarded: frozenset[EndpointKey] = frozenset()
    out_of_reach: frozenset[EndpointKey] = frozenset()
    software_checksums: bool = False
    ways_out: frozenset[InterfaceName] = frozenset()
    former_vxlan_ports: frozenset[int] = frozenset()
    metadata: firewall.Metadata = firewall.Metadata.REFUSED

    @property
    def without_endpoints(self) -> "Site":
        """The same without what comes and goes with this host's endpoints: what matters for the ways to other hosts."""
        return replace(
            self, published=(), bandwidths=(), unguarded=frozenset(), out_of_reach=frozenset(), kept_uplinks=frozenset()
        )

    @property
    def vxlan_ports(self) -> frozenset[int]:
        """Where hosts of this cluster, or of another overlay, may take in VXLAN packets: UDP, in host byte order."""
        return self.former_vxlan_ports | {self.vxlan_port, firewall.VXLAN_PORT}

    @property
    def mtu(self) -> int:
        """The MTU of every device of an overlay network, in bytes."""
        return self.underlay_mtu - VXLAN_OVERHEAD[self.underlay]


def joined(cluster: Cluster, host: HostId) -> frozenset[NetworkName]:
    """Return the networks in which a host takes part: it does while it owns a block."""
    if host not in cluster.hosts:
        return frozenset()
    return frozenset(block.network for block in cluster.blocks.values() if block.host == host) & set(cluster.networks)


def lifelines(cluster: Cluster, site: Site) -> Lifelines:
    """Return what no network's range may lead elsewhere on this host."""
    return Lifelines([*of_hosts(cluster.hosts.values()), *site.lifelines])


def uplink_kinds(cluster: Cluster, site: Site, networks: Iterable[Network]) -> Mapping[NetworkName, Uplink]:
    """Return the kinds of uplinks of these networks on this host, and of those that the cluster forgot."""
    return uplink.choose([*networks, *site.forgotten], site.foreign_routes, lifelines(cluster, site))


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
    names = joined(cluster, site.host)
    networks = [network for network in cluster.networks.values() if network.name in names]
    others = _elsewhere(cluster, site)
    kinds = uplink_kinds(cluster, site, networks)
    items: list[Item] = []
    for network in networks:
        kind = kinds[network.name]
        mine = [block for block in blocks[network.name] if block.host == site.host]
        items.extend(_network(network, host, site, kind))
        items.extend(_remote_hosts(network, blocks[network.name], cluster, site))
        items.extend(_endpoints(network, local, others.get(network.name, ()), cluster, site))
        for endpoint, bandwidth in site.bandwidths:
            if endpoint.network == network.name:
                items.extend(_within_reach(resolve_limits(endpoint, site.mtu, bandwidth), endpoint, site))
        items.extend(_hosts_in_segment(network, blocks[network.name], cluster, site))
        items.extend(uplink.resolve_uplink(network, kind, mine, site.mtu))
        own = uplink.own_addresses(network, mine)
        if inner := firewall.inner_table(network, kind, own, _published(network, site)):
            items.append(inner)
        if kind is not Uplink.NONE and _published(network, site):
            # For those who ask at the host's loopback address, the answer comes by the uplink.
            items.append(Sysctl(HOST, ownership.loopback_sysctl(uplink.host_device(network.vni)), "1"))
        if kind is not Uplink.NONE and network.topology is Topology.SWITCHED:
            items.append(firewall.segment_table(network, host.vtep.mac, own))
    if any(kinds[network.name] is not Uplink.NONE and Family.V4 in network.families for network in networks):
        # What comes back to containers from the world outside comes in there.
        items.extend(Sysctl(HOST, ownership.forwarding_sysctl(dev), "1") for dev in site.ways_out)
    items.extend(_host_tables(networks, kinds, cluster, site))
    return _one_for_each_key(as_mtu_allows(items, site.mtu))


def _elsewhere(cluster: Cluster, site: Site) -> Mapping[NetworkName, Sequence[Endpoint]]:
    """Return the endpoints of other hosts by network, in the order of their keys; the feed tells of those on segments.

    There may be tens of thousands, and a host may be in a hundred networks.
    """
    found: dict[NetworkName, list[Endpoint]] = {}
    for _, endpoint in sorted(cluster.endpoints.items()):
        if endpoint.host != site.host:
            found.setdefault(endpoint.network, []).append(endpoint)
    return found


def _endpoints(
    network: Network, local: Iterable[Endpoint], others: Sequence[Endpoint], cluster: Cluster, site: Site
) -> Iterator[Item]:
    """Yield where the network's endpoints are, those of this host (`local`) first, and those of `others`.

    What lost an address to another endpoint comes last, as the other one may have its MAC too, and so does what has the
    MAC of another host's endpoint, whose claim is the older one.
    """
    reserved = cluster.reserved(network.name)
    elsewhere = {endpoint.mac for endpoint in others}
    displaced = []
    for endpoint in local:
        if endpoint.network == network.name:
            lost = lost_addresses(endpoint, reserved)
            if lost or (endpoint.mac in elsewhere and endpoint.key not in cluster.endpoints):
                displaced.append((endpoint, lost))
            else:
                yield from _local(network, endpoint, cluster, site)
    if network.topology is Topology.ROUTED:
        yield from _remote_reservations(network, reserved, cluster, site)
    else:
        yield from _remote_endpoints(network, others, cluster, site)
        yield from _floating(network, reserved, local, cluster, site)
    for endpoint, lost in displaced:
        yield from _local(network, endpoint, cluster, site, lost)


def _local(
    network: Network, endpoint: Endpoint, cluster: Cluster, site: Site, lost: Collection[IpAddress] = ()
) -> State:
    shared = shared_addresses(endpoint, cluster.reservations)
    items = resolve_endpoint(network, endpoint, site.mtu, lost, shared)
    return _within_reach(without_guard(items) if endpoint.key in site.unguarded else items, endpoint, site)


def _within_reach(items: State, endpoint: Endpoint, site: Site) -> State:
    return without_sandbox(items) if endpoint.key in site.out_of_reach else items


def _host_tables(
    networks: Sequence[Network], kinds: Mapping[NetworkName, Uplink], cluster: Cluster, site: Site
) -> Iterator[Item]:
    """Yield the tables of nftables in the host's own namespace."""
    vteps = {other.address for other in cluster.hosts.values() if other.id != site.host}
    yield firewall.vxlan_table((network.vni for network in networks), vteps, site.vxlan_port, site.vxlan_ports)
    ways = [
        firewall.HostUplink(network, kinds[network.name], uplink.host_device(network.vni), _published(network, site))
        for network in (*networks, *site.forgotten)
        if kinds[network.name] is not Uplink.NONE
    ]
    if ways or site.kept_uplinks:
        yield firewall.host_table(ways, site.kept_uplinks, site.vxlan_ports, site.metadata)


def _published(network: Network, site: Site) -> tuple[Published, ...]:
    return tuple(published for published in site.published if published.network == network.name)


def _one_for_each_key(items: Iterable[Item]) -> State:
    """Return the first item for each key: the kernel has one place for it.

    Two endpoints may claim one MAC or address, above all while a container moves. What is on this host comes first, and
    then one host comes always before the other, so that the state does not swing.
    """
    found: dict[tuple[object, ...], Item] = {}
    for item in items:
        found.setdefault(item.key, item)
    return frozenset(found.values())


def _network(network: Network, host: Host, site: Site, kind: Uplink) -> Iterator[Item]:
    """Yield the network's namespace, its devices and what does not depend on other hosts."""
    ns = network_namespace(network.name)
    vxlan = Vxlan(network.vni, host.address, site.vxlan_port)
    sysctls = _WITH_IPV6 if Family.V6 in network.families else _WITHOUT_IPV6
    yield Link(ns, ownership.LOOPBACK, Loopback(), None, None)
    if site.software_checksums:
        yield SoftwareChecksums(ns, ownership.VXLAN)
    if network.topology is Topology.ROUTED:
        yield Namespace(ns, _ROUTED_SYSCTLS | sysctls)
        yield Link(ns, ownership.VXLAN, vxlan, host.vtep.mac, site.mtu)
        for family in network.families:
            yield Address(ns, ownership.LOOPBACK, interface(ownership.GATEWAYS[family]))
        for pool in network.pools:
            yield Route(ns, pool.range, None, None, UNREACHABLE_METRIC)
    else:
        yield Namespace(ns, sysctls if kind is Uplink.NONE else sysctls | _ROUTED_SYSCTLS)
        yield Link(ns, ownership.BRIDGE, Bridge(), ownership.GATEWAY_MAC, site.mtu)
        yield Link(ns, ownership.VXLAN, vxlan, host.vtep.mac, site.mtu, port=_OVERLAY_PORT)
        # The kernel makes this one with the bridge, but nothing brings it back when it is gone. That of the host's own
        # MAC stays the kernel's: it must lead to `vx0`, or the bridge does not answer for the host's addresses
        # (net/bridge/br_arp_nd_proxy.c: of ports with neigh_suppress only), and one by hand would not be taken up.
        yield BridgeEntry(ns, ownership.BRIDGE, ownership.GATEWAY_MAC, ownership.BRIDGE)
        if Family.V4 in network.families:
            # Without any, the kernel would take all neighbours off the bridge when its gateway's address goes.
            yield Address(ns, ownership.BRIDGE, interface(ownership.GATEWAYS[Family.V4]))


def _remote_hosts(network: Network, blocks: Iterable[Block], cluster: Cluster, site: Site) -> Iterator[Item]:
    """Yield the way to each other host: in a routed network to its blocks, in a switched one for broadcasts."""
    ns = network_namespace(network.name)
    for block in blocks:
        remote = cluster.hosts.get(block.host)
        if remote is None or remote.id == site.host or not _is_reachable(remote, cluster, site):
            continue
        if network.topology is Topology.SWITCHED:
            yield FdbEntry(ns, ownership.VXLAN, FLOOD, remote.address)
        else:
            yield from _remote_part(ns, block.cidr, remote.vtep)


def _remote_part(ns: NamespaceRef, part: IpNetwork, vtep: Vtep) -> Iterator[Item]:
    """Yield the way to a part of a routed network that is behind another host's tunnel end."""
    family = Family.of(part)
    next_hop = vtep.next_hop(family)
    yield FdbEntry(ns, ownership.VXLAN, vtep.mac, vtep.address)
    yield Neighbour(ns, ownership.VXLAN, next_hop, vtep.mac)
    yield Route(ns, part, ownership.VXLAN, next_hop, uplink.METRICS[family] + vtep.number)


def _remote_reservations(
    network: Network, reserved: Mapping[IpAddress, Reservation], cluster: Cluster, site: Site
) -> Iterator[Item]:
    """Yield the way to each reserved address that an endpoint of another host has, in a routed network."""
    ns = network_namespace(network.name)
    for address, reservation in reserved.items():
        remote = cluster.hosts.get(reservation.holder.host) if reservation.holder else None
        if remote and remote.id != site.host and _is_reachable(remote, cluster, site):
            yield from _remote_part(ns, alone(address), remote.vtep)


def _floating(
    network: Network,
    reserved: Mapping[IpAddress, Reservation],
    local: Iterable[Endpoint],
    cluster: Cluster,
    site: Site,
) -> Iterator[Item]:
    """Yield at which MAC each shared address is: that of the member which announced it last."""
    for address, reservation in reserved.items():
        if reservation.holder is None or not reservation.shared:
            continue
        member, host = reservation.holder, cluster.hosts.get(reservation.holder.host)
        key = (network.name, member.host, member.container_id, member.interface)
        own = next((endpoint for endpoint in local if endpoint.key == key), None)
        endpoint = own if member.host == site.host else cluster.endpoints.get(key)
        if endpoint and host and (host.id == site.host or _is_reachable(host, cluster, site)):
            yield Neighbour(network_namespace(network.name), ownership.BRIDGE, address, endpoint.mac)


def _is_reachable(remote: Host, cluster: Cluster, site: Site) -> bool:
    """Tell whether a tunnel leads to another host: its end is of the family of this host's own, and at another address.

    One that has given its address up, which this host has by now, is nowhere until it gets a new one.
    """
    own = cluster.hosts.get(site.host)
    return Family.of(remote.address) is site.underlay and (own is None or remote.address != own.address)


def _remote_endpoints(network: Network, others: Iterable[Endpoint], cluster: Cluster, site: Site) -> Iterator[Item]:
    """Yield where each endpoint of another host is, in a switched network."""
    ns = network_namespace(network.name)
    for endpoint in others:
        remote = cluster.hosts.get(endpoint.host)
        # Controllers of earlier releases let containers have the MAC of a gateway or a tunnel end.
        if remote is None or not _is_reachable(remote, cluster, site) or ids.is_own_mac(endpoint.mac):
            continue
        yield FdbEntry(ns, ownership.VXLAN, endpoint.mac, remote.address)
        yield BridgeEntry(ns, ownership.BRIDGE, endpoint.mac, ownership.VXLAN)
        for address in endpoint.addresses:
            yield Neighbour(ns, ownership.BRIDGE, address, endpoint.mac)


def _hosts_in_segment(network: Network, blocks: Iterable[Block], cluster: Cluster, site: Site) -> Iterator[Item]:
    """Yield where the hosts' own addresses are in a switched network: each host answers at its tunnel end's MAC."""
    if network.topology is Topology.ROUTED or network.uplink is Uplink.NONE:
        return
    ns = network_namespace(network.name)
    for block in blocks:
        member = cluster.hosts.get(block.host)
        if member is None or (member.id != site.host and not _is_reachable(member, cluster, site)):
            continue
        for address in uplink.own_addresses(network, [block]):
            yield Neighbour(ns, ownership.BRIDGE, address, member.vtep.mac)
        if member.id != site.host:
            yield FdbEntry(ns, ownership.VXLAN, member.vtep.mac, member.address)
            yield BridgeEntry(ns, ownership.BRIDGE, member.vtep.mac, ownership.VXLAN)
