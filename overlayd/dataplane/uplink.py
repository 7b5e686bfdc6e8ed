"""The way between a network and the rest of the world, on one host. Pure.

A pair of devices joins the network's namespace (`up0`) with the host's own (`ov<VNI>`). With *host access* the host's
end has the address that the host keeps of each of its blocks, and the host's way to the network's ranges leads there.
*Isolated*, the host knows but one address for the whole network, made of its VNI, behind which all of it hides.
"""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import MappingProxyType

from overlayd.dataplane import ownership
from overlayd.dataplane.items import (
    HOST,
    Address,
    Item,
    Link,
    Neighbour,
    Route,
    State,
    Sysctl,
    Veth,
    VethPeer,
    Vxlan,
    network_namespace,
)
from overlayd.model.address import Family, IpAddress, IpNetwork, alone, interface, overlap
from overlayd.model.block import Block
from overlayd.model.ids import InterfaceName, NetworkName, Vni
from overlayd.model.lifelines import Lifelines
from overlayd.model.network import HIDING, Network, Topology, Uplink

HOST_SIDES: Mapping[Family, IpAddress] = MappingProxyType(
    {Family.V4: IPv4Address("169.254.1.2"), Family.V6: IPv6Address("fe80::2")}
)
"""The next hop from a network's namespace to the host."""

DEFAULTS: Mapping[Family, IpNetwork] = MappingProxyType(
    {Family.V4: IPv4Network("0.0.0.0/0"), Family.V6: IPv6Network("::/0")}
)

METRICS: Mapping[Family, int] = MappingProxyType({Family.V4: 0, Family.V6: 1024})
"""The metric of routes to what is on this host: the best that a family has, as the kernel takes IPv6's 0 for 1024.

One to another host has the host's number added. Without a metric of its own per host, inserting N routes on one device
costs the kernel N² comparisons; and a local route comes before any other one to the same address.
"""

_HOST_SIDE = 1 << 32
"""How far behind the address of an isolated network its host's own is, of IPv6: link-local ones are not forwarded."""


def host_device(vni: Vni) -> InterfaceName:
    """Return the name of the uplink's end in the host's namespace."""
    return InterfaceName(f"{ownership.HOST_DEVICE_PREFIX}{vni}")


def disguise(vni: Vni, family: Family) -> IpAddress:
    """Return the address behind which an isolated network hides from its host; no other network has it."""
    number = int(HIDING[family].network_address) + vni
    return IPv4Address(number) if family is Family.V4 else IPv6Address(number)


def host_side(vni: Vni, family: Family) -> IpAddress:
    """Return the address that the host has on the uplink of an isolated network, and speaks with to it."""
    if family is Family.V4:
        return HOST_SIDES[Family.V4]
    return IPv6Address(int(HIDING[Family.V6].network_address) + _HOST_SIDE + vni)


def choose(
    networks: Iterable[Network], foreign: Iterable[IpNetwork], lifelines: Lifelines
) -> Mapping[NetworkName, Uplink]:
    """Return the kind of each network's uplink on a host with these `foreign` routes, all but default routes.

    A range that holds one of the host's lifelines never gets host access, whatever the network says.

    Where ranges overlap the host can only be a member of one network. Of those that may all have host access, that is
    the one with the lowest VNI: mostly the oldest, so that a new network takes nothing from one in use.
    """
    chosen: dict[NetworkName, Uplink] = {}
    members: list[Network] = []
    routes = list(foreign)
    for network in sorted(networks, key=lambda network: network.vni):
        kind = network.uplink
        if kind is Uplink.AUTO:
            kind = Uplink.ISOLATED if _is_among(network, routes) else Uplink.HOST
        if kind is Uplink.HOST and any(lifelines.conflicts(network)):
            kind = Uplink.ISOLATED
        if kind is Uplink.HOST and _is_among(network, (pool.range for other in members for pool in other.pools)):
            kind = Uplink.ISOLATED
        if kind is Uplink.HOST:
            members.append(network)
        chosen[network.name] = kind
    return chosen


def _is_among(network: Network, ranges: Iterable[IpNetwork]) -> bool:
    return any(overlap(pool.range, other) for other in ranges for pool in network.pools)


def own_addresses(network: Network, blocks: Iterable[Block]) -> tuple[IpAddress, ...]:
    """Return the address of each of these blocks that their host has itself."""
    pools = [(network.pool_of(block.cidr), block.cidr) for block in blocks]
    return tuple(network.host_address(pool, cidr) for pool, cidr in pools if pool)


def resolve_uplink(network: Network, kind: Uplink, blocks: Iterable[Block], mtu: int) -> Iterator[Item]:
    """Yield the devices of a network's uplink and what hangs on them, for a host with these blocks. MTU in bytes."""
    if kind is Uplink.NONE:
        return
    ns, dev = network_namespace(network.name), host_device(network.vni)
    own = own_addresses(network, blocks)
    yield Link(ns, ownership.UPLINK, Veth(VethPeer(HOST, dev, ownership.HOST_MAC)), ownership.GATEWAY_MAC, mtu)
    yield Link(HOST, dev, Veth(), ownership.HOST_MAC, mtu)
    for family in sorted({Family.of(address) for address in own}):
        if family is Family.V4:
            # The kernel takes IPv4 off a device, with all routes and neighbours, when its last address goes.
            yield Address(HOST, dev, interface(HOST_SIDES[family]))
            yield Address(ns, ownership.UPLINK, interface(ownership.GATEWAYS[family]))
            yield Sysctl(HOST, ownership.forwarding_sysctl(dev), "1")
        else:
            yield Sysctl(HOST, ownership.ipv6_sysctl(dev), "0")
        yield Sysctl(HOST, ownership.FORWARDING[family], "1")
        yield Neighbour(ns, ownership.UPLINK, HOST_SIDES[family], ownership.HOST_MAC)
        yield Route(ns, DEFAULTS[family], ownership.UPLINK, HOST_SIDES[family], METRICS[family])
        yield from _to_host(network, family, dev) if kind is Uplink.HOST else _hidden(network, family, dev)
    for address in own:
        yield from _own_address(network, address, dev, kind)
    if network.topology is Topology.SWITCHED:
        yield from _bridge_addresses(network, {Family.of(address) for address in own})


def _to_host(network: Network, family: Family, dev: InterfaceName) -> Iterator[Item]:
    """Yield the host's way to the ranges of a network."""
    yield Neighbour(HOST, dev, ownership.GATEWAYS[family], ownership.GATEWAY_MAC)
    for pool in network.pools:
        if pool.family is family:
            yield Route(HOST, pool.range, dev, ownership.GATEWAYS[family], METRICS[family])


def _hidden(network: Network, family: Family, dev: InterfaceName) -> Iterator[Item]:
    """Yield the host's way to the one address of a network that it knows."""
    address = disguise(network.vni, family)
    if family is Family.V6:
        yield Address(HOST, dev, interface(host_side(network.vni, family)))
    yield Address(network_namespace(network.name), ownership.UPLINK, interface(address))
    yield Neighbour(HOST, dev, address, ownership.GATEWAY_MAC)
    yield Route(HOST, alone(address), dev, None, METRICS[family])


def _own_address(network: Network, address: IpAddress, dev: InterfaceName, kind: Uplink) -> Iterator[Item]:
    """Yield the place of the host's own address of a block: on the host itself, or in the network's namespace.

    There a segment has it on its bridge: neighbour discovery leaves an address of any device of the namespace to that
    device (net/bridge/br_arp_nd_proxy.c: br_do_suppress_nd), and only the one that is asked answers.
    """
    ns = network_namespace(network.name)
    if kind is Uplink.ISOLATED:
        place = ownership.UPLINK if network.topology is Topology.ROUTED else ownership.BRIDGE
        yield Address(ns, place, interface(address))
        return
    yield Address(HOST, dev, interface(address))
    yield Neighbour(ns, ownership.UPLINK, address, ownership.HOST_MAC)
    yield Route(ns, alone(address), ownership.UPLINK, None, METRICS[Family.of(address)])


def _bridge_addresses(network: Network, families: Iterable[Family]) -> Iterator[Item]:
    """Yield the gateway of a segment, which every host is for its own containers."""
    for pool in network.pools:
        gateway = network.gateway(pool)
        if gateway and pool.family in families:
            yield Address(network_namespace(network.name), ownership.BRIDGE, interface(gateway, pool.range.prefixlen))


def host_devices(state: State) -> frozenset[InterfaceName]:
    """Return the names of the host's ends of uplinks, of the networks of which a state has the namespaces."""
    tunnels = (item.kind for item in state if isinstance(item, Link))
    return frozenset(host_device(kind.vni) for kind in tunnels if isinstance(kind, Vxlan))


def severing(state: State, lifelines: Lifelines) -> State:
    """Return what leads a lifeline into a network by the host's end of an uplink, or takes its address."""
    on_host = (item for item in state if item.ns == HOST)
    return frozenset(item for item in on_host if (cidr := _claimed(item)) and lifelines.within(cidr))


def _claimed(item: Item) -> IpNetwork | None:
    """Return the addresses that an item of the host's own namespace takes away from the underlay."""
    match item:
        case Route(dst=dst):
            return dst
        case Address(address=address):
            return alone(address.ip)
        case _:
            return None


def without(state: State, devices: frozenset[InterfaceName]) -> State:
    """Return a state without some devices of the host's own namespace, and what hangs on them."""
    return state - frozenset(item for item in state if item.ns == HOST and _device(item) in devices)


def _device(item: Item) -> InterfaceName | None:
    match item:
        case Link(name=name):
            return name
        case Address() | Neighbour() | Route():
            return item.dev
        case _:
            return None
