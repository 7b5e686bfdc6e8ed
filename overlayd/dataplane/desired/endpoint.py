"""The part of the desired state that belongs to one local endpoint, inside and outside its sandbox. Pure."""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from overlayd.dataplane import ownership
from overlayd.dataplane.desired import shaping, uplink
from overlayd.dataplane.items import (
    HOST,
    Address,
    BridgeEntry,
    BridgePort,
    DeviceSysctls,
    Item,
    Link,
    Loopback,
    NamespaceRef,
    Neighbour,
    Route,
    SourceGuard,
    State,
    Sysctl,
    Veth,
    VethPeer,
    network_namespace,
)
from overlayd.dataplane.link_alias import alias
from overlayd.model.address import Family, IpAddress, IpInterface, IpNetwork, alone, interface
from overlayd.model.bandwidth import Bandwidth
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.ids import InterfaceName, MacAddress
from overlayd.model.network import Network, Topology

_FIRST_INTERFACE = InterfaceName("eth0")

IPV6_MTU_MIN = 1280
"""Bytes. On a device with a smaller MTU the kernel has no IPv6 and refuses its addresses (RFC 8200 section 5)."""

_LOOPBACK_SYSCTLS = frozenset({("disable_ipv6", "0")})
"""Packets of a container to its own IPv6 address pass its loopback device."""

_SANDBOX_SYSCTLS = frozenset({("accept_ra", "0"), ("disable_ipv6", "0")})
"""Runtimes disable IPv6 in some sandboxes, and no router advertisement of another container may be accepted."""

_SEGMENT_SYSCTLS = frozenset({("addr_gen_mode", "0")})
"""The link-local address is derived from the MAC, because the filter at the host's end lets only that one pass."""

_WORKLOAD_PORT = BridgePort(ownership.BRIDGE, learning=False, unicast_flood=False, neigh_suppress=False)


def host_end(endpoint: EndpointKey) -> InterfaceName:
    """Return the name of the host's end of an endpoint's veth pair, a hash of container and interface."""
    *_, container, interface = endpoint
    digest = hashlib.blake2s(f"{container}\0{interface}".encode(), digest_size=6).hexdigest()
    return InterfaceName(ownership.VETH_PREFIX + digest)


def resolve_endpoint(
    network: Network,
    endpoint: Endpoint,
    mtu: int,
    lost: Collection[IpAddress] = (),
    shared: Collection[IpAddress] = (),
) -> State:
    """Return the part of the desired state of one local endpoint: both ends of its veth pair (MTU in bytes).

    `lost` are addresses that now belong to another endpoint: nothing is routed to them here, and in a switched network
    the filter drops what claims them. An endpoint that has lost all its addresses is cut off. `shared` are addresses
    that an endpoint of a switched network may use in addition to its own.
    """
    routed = network.topology is Topology.ROUTED
    items = _routed_endpoint(network, endpoint, mtu) if routed else _switched_endpoint(network, endpoint, mtu, shared)
    if lost:
        items = _without(items, lost, cut_off=frozenset(lost).issuperset(endpoint.addresses))
    settings = _SANDBOX_SYSCTLS if routed else _SANDBOX_SYSCTLS | _SEGMENT_SYSCTLS
    return frozenset(as_mtu_allows([*_sandbox(endpoint, mtu, settings), *items], mtu))


def as_mtu_allows(items: Iterable[Item], mtu: int) -> Iterator[Item]:
    """Yield the items without those of IPv6 if the MTU, in bytes, is too small for it."""
    return (item for item in items if mtu >= IPV6_MTU_MIN or not _needs_ipv6(item))


def _needs_ipv6(item: Item) -> bool:
    """Return whether an item needs IPv6 on a device other than the loopback, which has its own MTU."""
    match item:
        case DeviceSysctls(dev=dev):
            return dev != ownership.LOOPBACK
        case Sysctl(name=name):
            return name.endswith("/disable_ipv6")
        case Address(dev=dev, address=address):
            return dev != ownership.LOOPBACK and Family.of(address.ip) is Family.V6
        case Neighbour(address=address):
            return Family.of(address) is Family.V6
        case Route(dev=dev, dst=dst):
            return dev is not None and Family.of(dst) is Family.V6
        case _:
            return False


def resolve_limits(endpoint: Endpoint, mtu: int, bandwidth: Bandwidth) -> State:
    """Return the items that limit the bandwidth of one local endpoint (MTU in bytes)."""
    near = (network_namespace(endpoint.network), host_end(endpoint.key))
    return frozenset(shaping.limits(bandwidth, near, (NamespaceRef(endpoint.sandbox), endpoint.interface), mtu))


def _without(items: Iterable[Item], lost: Collection[IpAddress], *, cut_off: bool) -> Iterator[Item]:
    for item in items:
        if isinstance(item, Link):
            yield replace(item, up=not cut_off)
        elif isinstance(item, SourceGuard):
            yield replace(item, addresses=item.addresses.difference(lost))
        elif not _leads_to(item, lost):
            yield item


def _leads_to(item: Item, addresses: Collection[IpAddress]) -> bool:
    """Return whether an item leads packets to one of these addresses."""
    match item:
        case Neighbour(address=address):
            return address in addresses
        case Route(dst=dst):
            return dst.network_address in addresses and dst.prefixlen == dst.max_prefixlen
        case _:
            return False


def _sandbox(endpoint: Endpoint, mtu: int, settings: frozenset[tuple[str, str]]) -> Iterator[Item]:
    """Yield the items that every sandbox has."""
    ns, dev = NamespaceRef(endpoint.sandbox), endpoint.interface
    yield Link(ns, ownership.LOOPBACK, Loopback(), None, None)
    yield Link(ns, dev, Veth(), endpoint.mac, mtu)
    if any(Family.of(address) is Family.V6 for address in endpoint.addresses):
        yield DeviceSysctls(ns, ownership.LOOPBACK, _LOOPBACK_SYSCTLS)
        yield DeviceSysctls(ns, dev, settings)


def _routed_endpoint(network: Network, endpoint: Endpoint, mtu: int) -> Iterator[Item]:
    ns, dev = network_namespace(network.name), host_end(endpoint.key)
    sandbox, inside = NamespaceRef(endpoint.sandbox), endpoint.interface
    kind = Veth(VethPeer(sandbox, inside, endpoint.mac))
    yield Link(ns, dev, kind, ownership.GATEWAY_MAC, mtu, alias=alias(endpoint))
    for address in endpoint.addresses:
        family = Family.of(address)
        gateway = network.link_local_gateway(family)
        yield Address(sandbox, inside, interface(address))
        yield Neighbour(sandbox, inside, gateway, ownership.GATEWAY_MAC)
        for whole in ranges(network, family):
            yield Route(sandbox, whole, inside, gateway, uplink.METRICS[family])
        yield from _default_route(network, endpoint, gateway)
        yield Neighbour(ns, dev, address, endpoint.mac)
        yield Route(ns, alone(address), dev, None, uplink.METRICS[family])


def _switched_endpoint(network: Network, endpoint: Endpoint, mtu: int, shared: Collection[IpAddress]) -> Iterator[Item]:
    ns, dev = network_namespace(network.name), host_end(endpoint.key)
    sandbox, inside = NamespaceRef(endpoint.sandbox), endpoint.interface
    kind = Veth(VethPeer(sandbox, inside, endpoint.mac))
    yield Link(ns, dev, kind, _port_mac(dev), mtu, port=_WORKLOAD_PORT, alias=alias(endpoint))
    yield SourceGuard(ns, dev, endpoint.mac, frozenset([*endpoint.addresses, *shared]), frozenset(network.ethertypes))
    yield BridgeEntry(ns, ownership.BRIDGE, endpoint.mac, dev)
    for address in endpoint.addresses:
        yield Address(sandbox, inside, endpoint_address(network, address))
        gateway = gateway_of(network, address)
        if gateway:
            yield Neighbour(sandbox, inside, gateway, ownership.GATEWAY_MAC)
            yield from _default_route(network, endpoint, gateway)
        yield Neighbour(ns, ownership.BRIDGE, address, endpoint.mac)


def in_sandbox(state: State, endpoint: Endpoint) -> State:
    """Return the items of a state that are inside the sandbox of an endpoint and on its devices."""
    mine = {ownership.LOOPBACK, endpoint.interface}
    inside = (item for item in state if item.ns == endpoint.sandbox)
    return frozenset(item for item in inside if (item.name if isinstance(item, Link) else _device(item)) in mine)


def _device(item: Item) -> InterfaceName | None:
    return getattr(item, "dev", None)


def without_way_out(items: State) -> State:
    """Return an endpoint's items without default routes, which it lacks if its network got egress later."""
    return frozenset(item for item in items if not (isinstance(item, Route) and not item.dst.prefixlen))


def without_guard(items: Iterable[Item]) -> State:
    """Return an endpoint's items without its source filter. An agent of an earlier release attached it without one."""
    return frozenset(item for item in items if not isinstance(item, SourceGuard))


def without_sandbox(items: Iterable[Item]) -> State:
    """Return the items of an endpoint outside its sandbox, for a sandbox whose path no longer exists."""
    outside = (item for item in items if ownership.is_observed(item.ns))
    return frozenset(replace(item, kind=Veth()) if isinstance(item, Link) else item for item in outside)


def handed_over(network: Network, endpoint: Endpoint, items: Iterable[Item], mtu: int) -> State:
    """Return the items of an endpoint whose runtime makes what is in its sandbox (MTU in bytes).

    Such a sandbox has no permanent neighbour for its gateway, and asks for it. The kernel answers ARP for any address
    that the namespace has, but neighbour discovery only for one of the device itself (net/ipv6/ndisc.c:
    ndisc_recv_ns), so the host's end has the gateway's address, too.
    """
    outside = without_sandbox(items)
    has_v6 = any(Family.of(address) is Family.V6 for address in endpoint.addresses) and mtu >= IPV6_MTU_MIN
    if network.topology is Topology.SWITCHED or not has_v6:
        return outside
    ns, gateway = network_namespace(network.name), network.link_local_gateway(Family.V6)
    return outside | {Address(ns, host_end(endpoint.key), interface(gateway))}


def handed_pair(endpoint: Endpoint, items: Iterable[Item]) -> State:
    """Return the items of a handed over endpoint as they are made: with a far end that its runtime will move."""
    peer = VethPeer(HOST, endpoint.interface, endpoint.mac)
    return frozenset(
        replace(item, kind=Veth(peer)) if isinstance(item, Link) and item.name == host_end(endpoint.key) else item
        for item in items
    )


def _default_route(network: Network, endpoint: Endpoint, gateway: IpAddress) -> Iterator[Item]:
    """Yield the default route, if the network has egress. That of a container's first interface is preferred."""
    if network.has_egress:
        family = Family.of(gateway)
        metric = uplink.METRICS[family] + _preference(endpoint.interface)
        yield Route(NamespaceRef(endpoint.sandbox), uplink.DEFAULTS[family], endpoint.interface, gateway, metric)


def _preference(dev: InterfaceName) -> int:
    """Return the number that an interface adds to the metric of its default route: 0 for eth0, different for each."""
    if dev == _FIRST_INTERFACE:
        return 0
    number = int("".join(re.findall(r"\d", dev))[-3:] or 0)
    return (number + 1 << 16) + int.from_bytes(hashlib.blake2s(dev.encode(), digest_size=2).digest())


def gateway_of(network: Network, address: IpAddress) -> IpAddress | None:
    """Return the gateway of an endpoint with this address, None in a switched network without egress."""
    if network.topology is Topology.ROUTED:
        return network.link_local_gateway(Family.of(address))
    pool = next((pool for pool in network.pools if address in pool.range), None)
    return network.gateway(pool) if pool and network.has_egress else None


def destinations(network: Network, families: Collection[Family]) -> tuple[IpNetwork, ...]:
    """Return the destinations that an endpoint with addresses of these families reaches by its gateway."""
    inside = [pool.range for pool in network.pools if pool.family in families]
    outside = [uplink.DEFAULTS[family] for family in sorted(families)]
    routed = network.topology is Topology.ROUTED
    return (*(inside if routed else ()), *(outside if network.has_egress else ()))


def endpoint_address(network: Network, address: IpAddress) -> IpInterface:
    """Return an endpoint's address with its prefix length: the full one in a routed network, else that of the range."""
    if network.topology is Topology.ROUTED:
        return interface(address)
    # An address that is no longer in a range of its network keeps the full prefix length.
    return interface(address, next((pool.range.prefixlen for pool in network.pools if address in pool.range), None))


def ranges(network: Network, family: Family) -> Iterator[IpNetwork]:
    """Yield the ranges of a network that are of one family."""
    return (pool.range for pool in network.pools if pool.family is family)


def _port_mac(dev: InterfaceName) -> MacAddress:
    """Return a locally administered MAC for a bridge port, as the ports of a bridge must have different MACs."""
    octets = b"\x02" + hashlib.blake2s(dev.encode(), digest_size=5).digest()
    return MacAddress(octets.hex(":"))
