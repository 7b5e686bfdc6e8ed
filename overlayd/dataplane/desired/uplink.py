"""The uplink of a network: its connection to the host, and through the host to other networks. Pure.

A veth pair connects the network's namespace (`up0`) with the host's own (`ov<VNI>`). With *host access* the host's end
has the host's own address in each of its blocks, and the host routes the network's ranges to it. An *isolated* network
has one address, made of its VNI, on the host, and all its packets are translated to that.
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
from overlayd.ipam.lifelines import Lifelines
from overlayd.model.address import Family, IpAddress, IpNetwork, alone, interface, overlap
from overlayd.model.block import Block
from overlayd.model.ids import InterfaceName, NetworkName, Vni
from overlayd.model.network import HIDING, Network, Topology, Uplink

HOST_SIDES: Mapping[Family, IpAddress] = MappingProxyType(
    {Family.V4: IPv4Address("169.254.1.2"), Family.V6: IPv6Address("fe80::2")}
)
"""The next hop from a network's namespace to the host."""

NETWORK_SIDES: Mapping[Family, IpAddress] = MappingProxyType(
    {Family.V4: IPv4Address("169.254.1.1"), Family.V6: IPv6Address("fe80::1")}
)
"""The next hop from the host to a network's namespace, whatever the gateway of the network's containers is."""

DEFAULTS: Mapping[Family, IpNetwork] = MappingProxyType(
    {Family.V4: IPv4Network("0.0.0.0/0"), Family.V6: IPv6Network("::/0")}
)

METRICS: Mapping[Family, int] = MappingProxyType({Family.V4: 0, Family.V6: 1024})
"""The metric of routes to destinations on this host, the lowest of each family: the kernel replaces 0 by 1024 for IPv6.

Routes to another host have that host's number added, so a local route takes precedence over any other one to the same
address. Without a different metric for each host, inserting N routes on one device costs the kernel N² comparisons.
"""

_HOST_SIDE = 1 << 32
"""The distance from the IPv6 address of an isolated network to that of its host, which cannot be link-local because
those are not forwarded."""


def host_device(vni: Vni) -> InterfaceName:
    """Return the name of the host's end of an uplink."""
    return InterfaceName(f"{ownership.HOST_DEVICE_PREFIX}{vni}")


def disguise(vni: Vni, family: Family) -> IpAddress:
    """Return the address that represents an isolated network on its host, made of its VNI."""
    number = int(HIDING[family].network_address) + vni
    return IPv4Address(number) if family is Family.V4 else IPv6Address(number)


def host_side(vni: Vni, family: Family) -> IpAddress:
    """Return the host's own address on the uplink of an isolated network."""
    if family is Family.V4:
        return HOST_SIDES[Family.V4]
    return IPv6Address(int(HIDING[Family.V6].network_address) + _HOST_SIDE + vni)


def choose(
    networks: Iterable[Network], foreign: Iterable[IpNetwork], lifelines: Lifelines
) -> Mapping[NetworkName, Uplink]:
    """Return the kind of each network's uplink on a host. `foreign` are the host's own routes without default routes.

    A network whose range contains a lifeline of the host never gets host access, whatever its own setting.

    Of networks with overlapping ranges the host can be a member of only one. It is the one with the lowest VNI, usually
    the oldest, so that a new network takes nothing from one in use. Those that hosts had made come after all of
    administrators: a host chooses range and VNI, and may have been taken over.
    """
    chosen: dict[NetworkName, Uplink] = {}
    members: list[Network] = []
    routes = list(foreign)
    for network in sorted(networks, key=lambda network: (network.made_by is not None, network.vni)):
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
    """Return the host's own address in each of these blocks."""
    pools = [(network.pool_of(block.cidr), block.cidr) for block in blocks]
    return tuple(network.host_address(pool, cidr) for pool, cidr in pools if pool)


def resolve_uplink(network: Network, kind: Uplink, blocks: Iterable[Block], mtu: int) -> Iterator[Item]:
    """Yield the items of a network's uplink for a host with these blocks. MTU in bytes."""
    if kind is Uplink.NONE:
        return
    ns, dev = network_namespace(network.name), host_device(network.vni)
    own = own_addresses(network, blocks)
    yield Link(ns, ownership.UPLINK, Veth(VethPeer(HOST, dev, ownership.HOST_MAC)), ownership.GATEWAY_MAC, mtu)
    yield Link(HOST, dev, Veth(), ownership.HOST_MAC, mtu)
    for family in sorted({Family.of(address) for address in own}):
        if family is Family.V4:
            # The kernel removes all IPv4 routes and neighbours of a device with its last address.
            yield Address(HOST, dev, interface(HOST_SIDES[family]))
            yield Address(ns, ownership.UPLINK, interface(NETWORK_SIDES[family]))
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
    """Yield the host's routes to the ranges of a network."""
    yield Neighbour(HOST, dev, NETWORK_SIDES[family], ownership.GATEWAY_MAC)
    for pool in network.pools:
        if pool.family is family:
            yield Route(HOST, pool.range, dev, NETWORK_SIDES[family], METRICS[family])


def _hidden(network: Network, family: Family, dev: InterfaceName) -> Iterator[Item]:
    """Yield the host's route to the one address of an isolated network."""
    address = disguise(network.vni, family)
    if family is Family.V6:
        yield Address(HOST, dev, interface(host_side(network.vni, family)))
    yield Address(network_namespace(network.name), ownership.UPLINK, interface(address))
    yield Neighbour(HOST, dev, address, ownership.GATEWAY_MAC)
    yield Route(HOST, alone(address), dev, None, METRICS[family])


def _own_address(network: Network, address: IpAddress, dev: InterfaceName, kind: Uplink) -> Iterator[Item]:
    """Yield the host's own address of a block: on the host with host access, else in the network's namespace.

    In the namespace of a switched network the bridge has it. The bridge does not answer neighbour discovery for an
    address that any device of its namespace has (net/bridge/br_arp_nd_proxy.c: br_do_suppress_nd), and the kernel
    answers only on the device that has it.
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
    """Yield the gateway addresses of a switched network, which every host has for its own containers."""
    for pool in network.pools:
        gateway = network.gateway(pool)
        if gateway and pool.family in families:
            yield Address(network_namespace(network.name), ownership.BRIDGE, interface(gateway, pool.range.prefixlen))


def host_devices(state: State) -> frozenset[InterfaceName]:
    """Return the names of the host's ends of uplinks, for the networks in a state."""
    tunnels = (item.kind for item in state if isinstance(item, Link))
    return frozenset(host_device(kind.vni) for kind in tunnels if isinstance(kind, Vxlan))


def severing(state: State, lifelines: Lifelines) -> State:
    """Return the items of the host's own namespace that divert a lifeline into a network or take its address."""
    on_host = (item for item in state if item.ns == HOST)
    return frozenset(item for item in on_host if (cidr := _claimed(item)) and lifelines.within(cidr))


def _claimed(item: Item) -> IpNetwork | None:
    """Return the addresses that an item of the host's own namespace diverts from the underlay."""
    match item:
        case Route(dst=dst):
            return dst
        case Address(address=address):
            return alone(address.ip)
        case _:
            return None


def without(state: State, devices: frozenset[InterfaceName]) -> State:
    """Return a state without these devices of the host's own namespace and the items on them."""
    return state - frozenset(item for item in state if item.ns == HOST and _device(item) in devices)


def _device(item: Item) -> InterfaceName | None:
    match item:
        case Link(name=name):
            return name
        case Address() | Neighbour() | Route():
            return item.dev
        case _:
            return None
