"""What is ours in the kernel. Whatever this module does not recognise is foreign, and is never changed or removed."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
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
from overlayd.model.address import Family, IpAddress
from overlayd.model.ids import InterfaceName, MacAddress

PROTOCOL = 118
"""Marks our routes (RTA rtm_protocol, linux/rtnetlink.h) and neighbours (NDA_PROTOCOL, linux/neighbour.h)."""

LOOPBACK = InterfaceName("lo")
VXLAN = InterfaceName("vx0")
BRIDGE = InterfaceName("br0")
VETH_PREFIX = "ve"
RETIRED_PREFIX = "rv"
"""What the names of veth pairs begin with that were taken out of use; the index follows.

They are not observed: all that is left to do with them is to delete them.
"""
UPLINK = InterfaceName("up0")
HOST_DEVICE_PREFIX = "ov"
"""What the names of uplinks begin with in the host's own namespace; the VNI follows."""

GATEWAYS: Mapping[Family, IpAddress] = MappingProxyType(
    {Family.V4: IPv4Address("169.254.1.1"), Family.V6: IPv6Address("fe80::1")}
)
"""The addresses that stand for a container's own host in a routed network."""

GATEWAY_MAC = MacAddress("02:6f:76:00:00:00")
"""The MAC that goes with host number 0, which no host has: the same gateway for containers on every host."""

HOST_MAC = MacAddress("02:6f:76:01:00:00")
"""The MAC of the host's end of each uplink: above those of host numbers."""

TABLE = "overlayd"
VXLAN_TABLE = "overlayd_vxlan"
"""The names of our tables of nftables: the first one of any namespace, the second one of the host's own."""

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
"""The sysctls that we set in our own namespaces, and there only, in this order.

`all` stands for every device that is there, and `default` for those to come. IPv6 is enabled last, so that the kernel
makes no addresses by itself.
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
"""The sysctls of single devices in our own namespaces, and which one of the whole namespace each goes by.

They are written with slashes, as the name of a device may have dots in it.
"""

HIGHER_COUNTS = frozenset({"net/ipv4/conf/{}/rp_filter", "net/ipv4/conf/{}/send_redirects"})
"""Of a device's value and that of `all` the higher one is in force (linux: ip-sysctl); the others are the device's."""


def loopback_sysctl(dev: InterfaceName) -> str:
    """Return the sysctl that lets answers to the host's loopback address in by a device."""
    return f"net.ipv4.conf.{dev}.route_localnet"


def forwarding_sysctl(dev: InterfaceName) -> str:
    """Return the sysctl that lets IPv4 packets that come in by a device go on."""
    return f"net/ipv4/conf/{dev}/forwarding"


def ipv6_sysctl(dev: InterfaceName) -> str:
    """Return the sysctl that takes IPv6 from a device, or leaves it."""
    return f"net/ipv6/conf/{dev}/disable_ipv6"


def uplink_sysctls(dev: InterfaceName) -> tuple[str, ...]:
    """Return the sysctls of the host's end of an uplink that matter."""
    return (loopback_sysctl(dev), forwarding_sysctl(dev), ipv6_sysctl(dev))


def is_network_namespace(ns: NamespaceRef) -> bool:
    """Tell whether a namespace is one of ours (and not a workload's sandbox)."""
    return ns.startswith(NETWORK_NAMESPACES)


def is_observed(ns: NamespaceRef) -> bool:
    """Tell whether anything of ours is looked for in a namespace: in those of networks, and in the host's own."""
    return ns == HOST or is_network_namespace(ns)


def owns_link(name: str) -> bool:
    """Tell whether a device of one of our namespaces is ours, by its name."""
    return name in {LOOPBACK, VXLAN, BRIDGE, UPLINK} or name.startswith(VETH_PREFIX)


_IPV6 = 6
"""The version of addresses of which the kernel gives each device a link-local one by itself."""


def owns_host_device(name: str) -> bool:
    """Tell whether a device of the host's own namespace may be the end of an uplink, by its name."""
    return name.startswith(HOST_DEVICE_PREFIX) and name.removeprefix(HOST_DEVICE_PREFIX).isdecimal()


def owns(item: Item) -> bool:
    """Tell whether an observed item is ours.

    Routes and neighbours are recognised by `PROTOCOL` and FDB entries by NTF_EXT_LEARNED already where they are read;
    here decide the namespace, the device and the address.
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
            # Whoever took one of our names for another kind of device keeps it, and our pair cannot be made.
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
