"""Encodes the messages of an attachment once, so that the first attachment finds its templates.

pyroute2 takes 25 ms of processor time to load, and half a millisecond for each shape of a message.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

from overlayd.dataplane import ownership
from overlayd.dataplane.desired import uplink
from overlayd.dataplane.items import (
    NETWORK_NAMESPACES,
    Address,
    BridgeEntry,
    BridgePort,
    Link,
    Loopback,
    NamespaceRef,
    Neighbour,
    RateLimit,
    Route,
    SourceGuard,
    Veth,
    VethPeer,
)
from overlayd.kernel.netlink import encoder, entry_messages, link_messages, traffic_control
from overlayd.kernel.netlink.encoder import Structure
from overlayd.kernel.netlink.entry_messages import Verb
from overlayd.kernel.packets import source_guard
from overlayd.model.address import Family, IpAddress, IpNetwork
from overlayd.model.ids import InterfaceName, MacAddress

_NS, _SANDBOX = NamespaceRef(f"{NETWORK_NAMESPACES}x"), NamespaceRef("/run/netns/x")
_NEAR, _INSIDE = InterfaceName(f"{ownership.VETH_PREFIX}0123456789ab"), InterfaceName("eth0")
_MAC = MacAddress("02:00:00:00:00:01")
_MTU = 1450
_RETIRED = (1 << 30) + 1
"""An index as those of our veth pairs are."""

_ADDRESSES = (IPv4Interface("10.0.0.2/32"), IPv6Interface("fd00::2/128"))
_RANGES: Mapping[Family, IpNetwork] = {Family.V4: IPv4Network("10.0.0.0/16"), Family.V6: IPv6Network("fd00::/48")}


def rehearse() -> Iterator[None]:
    """Encode the messages of attaching and detaching; yield between pieces of some 10 ms. Raises `KernelError`."""
    for structure in Structure:
        encoder.load(structure)
        yield
    _links()
    yield
    _entries()
    yield
    _segment()


def _links() -> None:
    peer = VethPeer(_SANDBOX, _INSIDE, _MAC)
    link_messages.created_pair(Link(_NS, _NEAR, Veth(peer), _MAC, _MTU), peer, 3, up=False)
    link_messages.retired(_RETIRED)
    link_messages.group_deleted()
    link_messages.deleted(_NEAR)
    indexes = {_INSIDE: 3, _NEAR: 4}
    loopback, inside = (
        Link(_SANDBOX, ownership.LOOPBACK, Loopback(), None, None),
        Link(_SANDBOX, _INSIDE, Veth(), _MAC, _MTU),
    )
    for link in (loopback, inside, replace(inside, name=_NEAR)):
        entry_messages.entry(Verb.ADD, link, indexes)


def _entries() -> None:
    indexes = {_INSIDE: 3, _NEAR: 4}
    for address in _ADDRESSES:
        family = Family.of(address.ip)
        gateway, metric = uplink.NETWORK_SIDES[family], uplink.METRICS[family]
        alone = address.network
        for verb in (Verb.ADD, Verb.DELETE):
            for item in (
                Address(_SANDBOX, _INSIDE, address),
                Neighbour(_SANDBOX, _INSIDE, gateway, _MAC),
                Route(_SANDBOX, _RANGES[family], _INSIDE, gateway, metric),
                Route(_SANDBOX, uplink.DEFAULTS[family], _INSIDE, gateway, metric),
                Route(_NS, alone, _NEAR, None, metric),
            ):
                entry_messages.entry(verb, item, indexes)


def _segment() -> None:
    """Encode the further messages of an attachment to a switched network, or with a bandwidth limit."""
    indexes = {_NEAR: 4}
    port = BridgePort(ownership.BRIDGE, learning=False, unicast_flood=False, neigh_suppress=False)
    link_messages.changed(_NEAR, master=5)
    link_messages.changed(_NEAR, up=True)
    link_messages.port_changed(_NEAR, port)
    both: frozenset[IpAddress] = frozenset(address.ip for address in _ADDRESSES)
    traffic_control.hook_made(4)
    for addresses in (both, both - {_ADDRESSES[1].ip}):
        traffic_control.program_put(4, source_guard.code(SourceGuard(_NS, _NEAR, _MAC, addresses)))
    for item in (BridgeEntry(_NS, ownership.BRIDGE, _MAC, _NEAR), RateLimit(_NS, _NEAR, 1_000_000, 1, 1)):
        for verb in (Verb.ADD, Verb.DELETE):
            entry_messages.entry(verb, item, indexes)
