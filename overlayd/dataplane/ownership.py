"""Which objects in the kernel are ours. Everything else is foreign, and never changed or removed."""

from collections.abc import Mapping
from types import MappingProxyType

from overlayd.dataplane.items import (
    HOST,
    NETWORK_NAMESPACES,
    Address,
    BridgeEntry,
    DeviceSysctls,
    FdbEntry,
    Item,
    Link,
    Namespace,
    NamespaceRef,
    Neighbour,
    NftTable,
    RateLimit,
    Route,
    SoftwareChecksums,
    SourceGuard,
    Sysctl,
    Veth,
)
from overlayd.model.address import Family
from overlayd.model.ids import InterfaceName, MacAddress

PROTOCOL = 118
"""Marks our routes (RTA rtm_protocol, linux/rtnetlink.h) and neighbours (NDA_PROTOCOL, linux/neighbour.h)."""

LOOPBACK = InterfaceName("lo")
VXLAN = InterfaceName("vx0")
BRIDGE = InterfaceName("br0")
VETH_PREFIX = "ve"
RETIRED_PREFIX = "rv"
"""The prefix of the names of retired veth pairs; the interface index follows.

Retired pairs are not observed: they only wait to be deleted.
"""
UPLINK = InterfaceName("up0")
HOST_DEVICE_PREFIX = "ov"
"""The prefix of the names of uplinks in the host's own namespace; the VNI follows."""

HANDED_PREFIX = "ov-"
"""The prefix of the names of interfaces in the host's own namespace that a runtime is about to move; a hash follows."""

GATEWAY_MAC = MacAddress("02:6f:76:00:00:00")
"""The MAC of every network's gateway, made of host number 0, which no host has."""

HOST_MAC = MacAddress("02:6f:76:01:00:00")
"""The MAC of the host's end of each uplink, above the MACs of all host numbers."""

TABLE = "overlayd"
VXLAN_TABLE = "overlayd_vxlan"
"""The names of our nftables tables. The second one exists in the host's own namespace only."""

SYSCTLS = (
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.bridge.bridge-nf-call-arptables",
    "net.ipv4.ip_forward",
    "net.ipv4.conf.default.forwarding",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.default.rp_filter",
    "net.ipv4.conf.all.send_redirects",
    "net.ipv4.conf.default.send_redirects",
    "net.ipv6.conf.all.addr_gen_mode",
    "net.ipv6.conf.default.addr_gen_mode",
    "net.ipv6.conf.all.forwarding",
    "net.ipv6.conf.default.forwarding",
    "net.ipv6.conf.all.disable_ipv6",
    "net.ipv6.conf.default.disable_ipv6",
)
"""The sysctls of our own namespaces, in the order in which they are set.

`all` applies to existing devices and `default` to later ones. IPv6 is enabled last, so that the kernel generates no
addresses.
"""


FORWARDING: Mapping[Family, str] = MappingProxyType(
    {Family.V4: "net.ipv4.ip_forward", Family.V6: "net.ipv6.conf.all.forwarding"}
)
HOST_SYSCTLS = tuple(FORWARDING.values())
"""The sysctls of the host's own namespace that uplinks need."""


DEVICE_SYSCTLS: Mapping[str, str] = MappingProxyType(
    {
        "net/ipv4/conf/{}/forwarding": "net.ipv4.ip_forward",
        "net/ipv4/conf/{}/rp_filter": "net.ipv4.conf.all.rp_filter",
        "net/ipv4/conf/{}/send_redirects": "net.ipv4.conf.all.send_redirects",
        "net/ipv6/conf/{}/forwarding": "net.ipv6.conf.all.forwarding",
        "net/ipv6/conf/{}/disable_ipv6": "net.ipv6.conf.all.disable_ipv6",
    }
)
"""The sysctls of single devices in our own namespaces, each with the sysctl of the namespace whose value it must have.

They are written with slashes, because the name of a device may contain dots.
"""

HIGHER_COUNTS = frozenset({"net/ipv4/conf/{}/rp_filter", "net/ipv4/conf/{}/send_redirects"})
"""For these the higher of the device's value and that of `all` applies (ip-sysctl); for the others the device's."""


def loopback_sysctl(dev: InterfaceName) -> str:
    """Return the sysctl that admits packets to the host's loopback address on a device."""
    return f"net.ipv4.conf.{dev}.route_localnet"


def forwarding_sysctl(dev: InterfaceName) -> str:
    """Return the sysctl that lets the host forward the IPv4 packets that arrive on a device."""
    return f"net/ipv4/conf/{dev}/forwarding"


def ipv6_sysctl(dev: InterfaceName) -> str:
    """Return the sysctl that disables IPv6 on a device."""
    return f"net/ipv6/conf/{dev}/disable_ipv6"


def uplink_sysctls(dev: InterfaceName) -> tuple[str, ...]:
    """Return the sysctls that the host's end of an uplink needs."""
    return (loopback_sysctl(dev), forwarding_sysctl(dev), ipv6_sysctl(dev))


def is_network_namespace(ns: NamespaceRef) -> bool:
    """Return whether a namespace belongs to a network, and not to a workload or to the host."""
    return ns.startswith(NETWORK_NAMESPACES)


def is_observed(ns: NamespaceRef) -> bool:
    """Return whether a namespace is observed: those of networks are, and the host's own."""
    return ns == HOST or is_network_namespace(ns)


def owns_link(name: str) -> bool:
    """Return whether a device in the namespace of a network is ours, by its name."""
    return name in {LOOPBACK, VXLAN, BRIDGE, UPLINK} or name.startswith(VETH_PREFIX)


_IPV6 = 6
"""The family of which the kernel itself gives each device a link-local address."""


def owns_host_device(name: str) -> bool:
    """Return whether a device in the host's own namespace has the name of an uplink."""
    return name.startswith(HOST_DEVICE_PREFIX) and name.removeprefix(HOST_DEVICE_PREFIX).isdecimal()


def owns(item: Item) -> bool:
    """Return whether an observed item is ours, by its namespace, device and address.

    Reading the kernel has already selected routes and neighbours by `PROTOCOL`, and FDB entries by NTF_EXT_LEARNED.
    """
    if item.ns == HOST:
        return _owns_on_host(item)
    return is_network_namespace(item.ns) and _owns_inside(item)


def _owns_on_host(item: Item) -> bool:
    match item:
        case NftTable():
            return _owns_table(item)
        case Sysctl():
            return True
        case Link(name=name, kind=kind):
            # Another kind of device with the name of an uplink is foreign and stays; our pair cannot be created then.
            return owns_host_device(name) and isinstance(kind, Veth)
        case Address(dev=dev, address=address):
            return owns_host_device(dev) and not (address.version == _IPV6 and address.ip.is_link_local)
        case Neighbour(dev=dev) | Route(dev=dev):
            return dev is not None and owns_host_device(dev)
        case _:
            return False


def _owns_table(table: NftTable) -> bool:
    return table.name in {TABLE, VXLAN_TABLE}


def _owns_inside(item: Item) -> bool:
    match item:
        case Namespace() | DeviceSysctls() | Sysctl():
            return isinstance(item, Namespace)
        case NftTable():
            return _owns_table(item)
        case Link(name=name):
            return owns_link(name)
        case Address(dev=dev, address=address):
            return dev in {BRIDGE, UPLINK} or (owns_link(dev) and address.ip.is_link_local)
        case (
            SoftwareChecksums(dev=dev)
            | RateLimit(dev=dev)
            | SourceGuard(dev=dev)
            | Neighbour(dev=dev)
            | FdbEntry(dev=dev)
            | BridgeEntry(dev=dev)
        ):
            return owns_link(dev)
        case Route(dev=dev):
            return dev is None or owns_link(dev)
