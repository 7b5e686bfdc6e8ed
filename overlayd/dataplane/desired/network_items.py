"""The desired state of one network on one host, piece by piece. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from overlayd.dataplane import ownership
from overlayd.dataplane.desired import firewall, uplink
from overlayd.dataplane.desired.endpoint import (
    handed_over,
    resolve_endpoint,
    resolve_limits,
    without_guard,
    without_sandbox,
)
from overlayd.dataplane.desired.site import Site
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
    Neighbour,
    Route,
    SoftwareChecksums,
    State,
    Sysctl,
    Vxlan,
    network_namespace,
)
from overlayd.model import ids
from overlayd.model.address import Family, IpAddress, alone, interface
from overlayd.model.block import Block, BlockKey
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.host import Host
from overlayd.model.ids import HostId
from overlayd.model.network import Network, Topology, Uplink
from overlayd.model.reservation import Reservation, ReservationKey, lost_addresses, shared_addresses

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
"""No addresses but ours; and a forwarding namespace believes no router advertisement (linux: ip-sysctl, accept_ra)."""

_OVERLAY_PORT = BridgePort(ownership.BRIDGE, learning=False, unicast_flood=False, neigh_suppress=True)


@dataclass(frozen=True, slots=True)
class NetworkInputs:
    """All inputs of a network's desired state, besides the records of its other hosts.

    `own` is this host with its blocks, and `kind` the kind of the uplink here. The tables are the network's tables of
    the cluster; `local` are this host's endpoints in it, and `site` the part of the site that concerns it.
    """

    network: Network
    own: Host
    own_blocks: tuple[Block, ...]
    kind: Uplink
    local: tuple[Endpoint, ...]
    site: Site
    blocks: Mapping[BlockKey, Block] = field(compare=False)
    endpoints: Mapping[EndpointKey, Endpoint] = field(compare=False)
    reservations: Mapping[ReservationKey, Reservation] = field(compare=False)
    reserved: Mapping[IpAddress, Reservation] = field(compare=False)
    """The reservations by the addresses that they hold."""

    def are(self, other: "NetworkInputs") -> bool:
        """Return whether these are the same inputs; tables are compared by identity."""
        tables = self.blocks is other.blocks and self.endpoints is other.endpoints
        return tables and self.reservations is other.reservations and self == other

    def is_reachable(self, remote: Host) -> bool:
        """Return whether a tunnel to another host is possible: its end has this host's family, and another address.

        A host whose former address this host has now is not reachable until it gets a new one.
        """
        return Family.of(remote.address) is self.site.underlay and remote.address != self.own.address


class RemoteShare(NamedTuple):
    """What another host has in a network: blocks; endpoints if it is switched, reserved addresses if it is routed."""

    host: Host
    blocks: tuple[Block, ...]
    endpoints: tuple[Endpoint, ...]
    reserved: tuple[IpAddress, ...]


def network_items(inputs: NetworkInputs) -> Iterator[Item]:
    """Yield the network's namespace, its devices, and everything that does not depend on other hosts."""
    network, site, ns = inputs.network, inputs.site, network_namespace(inputs.network.name)
    vxlan = Vxlan(network.vni, inputs.own.address, site.vxlan_port)
    sysctls = _WITH_IPV6 if Family.V6 in network.families else _WITHOUT_IPV6
    mac = inputs.own.vtep.mac
    yield Link(ns, ownership.LOOPBACK, Loopback(), None, None)
    if site.software_checksums:
        yield SoftwareChecksums(ns, ownership.VXLAN)
    if network.topology is Topology.ROUTED:
        yield Namespace(ns, _ROUTED_SYSCTLS | sysctls)
        yield Link(ns, ownership.VXLAN, vxlan, mac, site.mtu)
        for family in network.families:
            yield Address(ns, ownership.LOOPBACK, interface(network.link_local_gateway(family)))
        for pool in network.pools:
            yield Route(ns, pool.range, None, None, UNREACHABLE_METRIC)
    else:
        yield Namespace(ns, sysctls if inputs.kind is Uplink.NONE else sysctls | _ROUTED_SYSCTLS)
        yield Link(ns, ownership.BRIDGE, Bridge(), ownership.GATEWAY_MAC, site.mtu)
        yield Link(ns, ownership.VXLAN, vxlan, mac, site.mtu, port=_OVERLAY_PORT)
        # The kernel makes this one with the bridge, but nothing brings it back when it is gone. That of the host's own
        # MAC stays the kernel's: it must lead to `vx0`, or the bridge does not answer for the host's addresses
        # (net/bridge/br_arp_nd_proxy.c: of ports with neigh_suppress only), and one by hand would not be taken up.
        yield BridgeEntry(ns, ownership.BRIDGE, ownership.GATEWAY_MAC, ownership.BRIDGE)
        if Family.V4 in network.families:
            # Without any, the kernel would take all neighbours off the bridge when its gateway's address goes.
            yield Address(ns, ownership.BRIDGE, interface(uplink.NETWORK_SIDES[Family.V4]))


def latecomers(inputs: NetworkInputs) -> frozenset[EndpointKey]:
    """Return this host's endpoints that have the MAC of another host's endpoint, whose claim is the older one."""
    macs = {endpoint.mac for endpoint in inputs.local}
    others = [each for each in inputs.endpoints.values() if each.mac in macs] if macs else []
    elsewhere = {endpoint.mac for endpoint in others if endpoint.host != inputs.own.id}
    late = (endpoint.key for endpoint in inputs.local if endpoint.mac in elsewhere)
    return frozenset(key for key in late if key not in inputs.endpoints)


def local_items(inputs: NetworkInputs, late: Collection[EndpointKey]) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Return where this host's endpoints are: those that come before other hosts' endpoints, and those behind them.

    What lost an address to another endpoint comes last, as the other one may have its MAC too, and so do latecomers.
    """
    first, displaced = list[Item](), list[Item]()
    for endpoint in inputs.local:
        lost = lost_addresses(endpoint, inputs.reserved)
        (displaced if lost or endpoint.key in late else first).extend(_local(inputs, endpoint, lost))
    return tuple(first), tuple(displaced)


def _local(inputs: NetworkInputs, endpoint: Endpoint, lost: Collection[IpAddress]) -> State:
    site, shared = inputs.site, shared_addresses(endpoint, inputs.reservations)
    items = resolve_endpoint(inputs.network, endpoint, site.mtu, lost, shared)
    if endpoint.key in site.handed_over:
        return handed_over(inputs.network, endpoint, items, site.mtu)
    return _within_reach(without_guard(items) if endpoint.key in site.unguarded else items, endpoint, site)


def limit_items(inputs: NetworkInputs) -> Iterator[Item]:
    """Yield the bandwidth limits of this host's endpoints."""
    for endpoint, bandwidth in inputs.site.bandwidths:
        limits = resolve_limits(endpoint, inputs.site.mtu, bandwidth)
        yield from _within_reach(limits, endpoint, inputs.site)


def _within_reach(items: State, endpoint: Endpoint, site: Site) -> State:
    is_outside = endpoint.key in site.out_of_reach or endpoint.key in site.handed_over
    return without_sandbox(items) if is_outside else items


def way_items(inputs: NetworkInputs, share: RemoteShare) -> Iterator[Item]:
    """Yield the path to another host: in a routed network to its addresses, in a switched one for broadcasts.

    A reserved address of an endpoint of that host has a route of its own.
    """
    ns = network_namespace(inputs.network.name)
    if inputs.network.topology is Topology.SWITCHED:
        if share.blocks:
            yield FdbEntry(ns, ownership.VXLAN, FLOOD, share.host.address)
        return
    vtep = share.host.vtep
    mac = vtep.mac
    for part in (*(block.cidr for block in share.blocks), *map(alone, share.reserved)):
        family = Family.of(part)
        next_hop = vtep.next_hop(family)
        yield FdbEntry(ns, ownership.VXLAN, mac, vtep.address)
        yield Neighbour(ns, ownership.VXLAN, next_hop, mac)
        yield Route(ns, part, ownership.VXLAN, next_hop, uplink.METRICS[family] + vtep.number)


def endpoint_items(inputs: NetworkInputs, endpoint: Endpoint, host: Host) -> Iterator[Item]:
    """Yield the entries for an endpoint of another host, in a switched network."""
    # Controllers of earlier releases let containers have the MAC of a gateway or a tunnel end.
    if ids.is_own_mac(endpoint.mac):
        return
    ns = network_namespace(inputs.network.name)
    yield FdbEntry(ns, ownership.VXLAN, endpoint.mac, host.address)
    yield BridgeEntry(ns, ownership.BRIDGE, endpoint.mac, ownership.VXLAN)
    for address in endpoint.addresses:
        yield Neighbour(ns, ownership.BRIDGE, address, endpoint.mac)


def host_items(network: Network, host: Host, blocks: Iterable[Block], *, is_remote: bool) -> Iterator[Item]:
    """Yield the entries for a host's own addresses in a switched network, which are at its tunnel end's MAC."""
    if network.topology is Topology.ROUTED or network.uplink is Uplink.NONE:
        return
    ns = network_namespace(network.name)
    for block in blocks:
        for address in uplink.own_addresses(network, [block]):
            yield Neighbour(ns, ownership.BRIDGE, address, host.vtep.mac)
        if is_remote:
            yield FdbEntry(ns, ownership.VXLAN, host.vtep.mac, host.address)
            yield BridgeEntry(ns, ownership.BRIDGE, host.vtep.mac, ownership.VXLAN)


def floating_items(inputs: NetworkInputs, reachable: Collection[HostId]) -> Iterator[Item]:
    """Yield the neighbour of each shared address in a switched network: the MAC of the last announcer."""
    network = inputs.network
    if network.topology is Topology.ROUTED:
        return
    for address, reservation in inputs.reserved.items():
        member = reservation.holder
        if member is None or not reservation.shared:
            continue
        key = (network.name, member.host, member.container_id, member.interface)
        if member.host == inputs.own.id:
            endpoint = next((each for each in inputs.local if each.key == key), None)
        else:
            endpoint = inputs.endpoints.get(key) if member.host in reachable else None
        if endpoint:
            yield Neighbour(network_namespace(network.name), ownership.BRIDGE, address, endpoint.mac)


def uplink_items(inputs: NetworkInputs) -> Iterator[Item]:
    """Yield the network's uplink, and the tables of its namespace."""
    network, kind, published = inputs.network, inputs.kind, inputs.site.published
    yield from uplink.resolve_uplink(network, kind, inputs.own_blocks, inputs.site.mtu)
    own = uplink.own_addresses(network, inputs.own_blocks)
    if inner := firewall.inner_table(network, kind, own, published):
        yield inner
    if kind is not Uplink.NONE and published:
        # For those who ask at the host's loopback address, the answer comes by the uplink.
        yield Sysctl(HOST, ownership.loopback_sysctl(uplink.host_device(network.vni)), "1")
    if kind is not Uplink.NONE and network.topology is Topology.SWITCHED:
        yield firewall.segment_table(network, inputs.own.vtep.mac, own)
