"""From the payloads of rtnetlink dumps to items, in the canonical form of desired items.

An attribute that the kernel omits has its default; entries without our mark (protocol, NTF_EXT_LEARNED) are left out
here. The names are those of linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h and linux/neighbour.h.
"""

import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from overlayd.dataplane import ownership
from overlayd.dataplane.items import (
    FLOOD,
    Address,
    Bridge,
    BridgeEntry,
    BridgePort,
    FdbEntry,
    Link,
    LinkKind,
    Loopback,
    NamespaceRef,
    Neighbour,
    Other,
    Route,
    Veth,
    Vxlan,
)
from overlayd.kernel.netlink.framing import aligned, attributes
from overlayd.kernel.netlink.rtnetlink import (
    IFA_ADDRESS,
    IFA_LOCAL,
    IFADDRMSG,
    IFF_LOOPBACK,
    IFF_LOWER_UP,
    IFF_UP,
    IFINFOMSG,
    IFLA_ADDRESS,
    IFLA_AF_SPEC,
    IFLA_BRPORT_LEARNING,
    IFLA_BRPORT_NEIGH_SUPPRESS,
    IFLA_BRPORT_UNICAST_FLOOD,
    IFLA_CARRIER_DOWN_COUNT,
    IFLA_EVENT,
    IFLA_EVENT_FEATURES,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INET6_CONF,
    IFLA_INET_CONF,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_INFO_SLAVE_DATA,
    IFLA_INFO_SLAVE_KIND,
    IFLA_LINK,
    IFLA_LINK_NETNSID,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    IFLA_PROTINFO,
    IFLA_VXLAN_ID,
    IFLA_VXLAN_LEARNING,
    IFLA_VXLAN_LOCAL,
    IFLA_VXLAN_LOCAL6,
    IFLA_VXLAN_PORT,
    NDA_DST,
    NDA_LLADDR,
    NDA_MASTER,
    NDA_PROTOCOL,
    NDMSG,
    NETCONFA_FORWARDING,
    NETCONFA_IFINDEX,
    NETCONFA_RP_FILTER,
    NETNSA_NSID,
    NTF_EXT_LEARNED,
    NTF_SELF,
    NUD_PERMANENT,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTA_DST,
    RTA_GATEWAY,
    RTA_METRICS,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_VIA,
    RTAX_MTU,
    RTGENMSG,
    RTMSG,
    RTN_UNICAST,
    RTN_UNREACHABLE,
    RTNEXTHOP,
)
from overlayd.model.address import IpAddress, IpInterface, IpNetwork
from overlayd.model.ids import InterfaceName, MacAddress, Vni

_SIGNED = struct.Struct("=i")
_NETCONF_SYSCTLS: Mapping[int, Mapping[int, str]] = {
    socket.AF_INET: {
        NETCONFA_FORWARDING: "net/ipv4/conf/{}/forwarding",
        NETCONFA_RP_FILTER: "net/ipv4/conf/{}/rp_filter",
    },
    socket.AF_INET6: {NETCONFA_FORWARDING: "net/ipv6/conf/{}/forwarding"},
}
_DEVICE_SYSCTLS: Mapping[int, tuple[int, Mapping[str, int]]] = {
    socket.AF_INET: (
        IFLA_INET_CONF,
        {
            "net/ipv4/conf/{}/forwarding": 0,
            "net/ipv4/conf/{}/send_redirects": 5,
            "net/ipv4/conf/{}/rp_filter": 7,
        },
    ),
    socket.AF_INET6: (
        IFLA_INET6_CONF,
        {
            "net/ipv6/conf/{}/forwarding": 0,
            "net/ipv6/conf/{}/disable_ipv6": 26,
        },
    ),
}
"""The attribute that holds a device's sysctls as an array of numbers, and their places in it (linux/ip.h, linux/ipv6.h:
IPV4_DEVCONF_*, which begin with 1, and DEVCONF_*)."""

_NUMBER = struct.Struct("=I")
_PORT = struct.Struct("!H")
_OURS = bytes([ownership.PROTOCOL])
_IPV4_SIZE = 4
_ANY = {socket.AF_INET: bytes(4), socket.AF_INET6: bytes(16)}
"""The destination of a default route, which has no RTA_DST."""

Names = Mapping[int, InterfaceName]
"""Names of one namespace's devices by their indexes."""


@dataclass(frozen=True, slots=True)
class Device:
    """A link as the kernel reports it, before names stand for indexes."""

    index: int
    name: InterfaceName
    mtu: int
    flags: int
    kind: str
    attributes: Mapping[int, bytes]

    @property
    def far_index(self) -> int:
        """The index of the other end of a veth pair, in whatever namespace that is."""
        return _number(self.attributes.get(IFLA_LINK))

    @property
    def mac(self) -> str:
        """Its address, empty when it has none."""
        return self.attributes.get(IFLA_ADDRESS, b"").hex(":")

    @property
    def carries_packets(self) -> bool:
        """Whether packets leave the host by it; false for a loopback or a dummy, whose address others may reach."""
        return not self.flags & IFF_LOOPBACK and self.kind != "dummy"

    @property
    def has_carrier(self) -> bool:
        """Whether it is up, and its other end too."""
        return bool(self.flags & IFF_LOWER_UP)

    @property
    def carrier_losses(self) -> int:
        """How often it lost its carrier since it was made."""
        return _number(self.attributes.get(IFLA_CARRIER_DOWN_COUNT))


def namespace_number(payload: bytes) -> int:
    """Return the number by which one namespace knows another, -1 when it does not know it."""
    return int(_SIGNED.unpack(attributes(payload, RTGENMSG.size)[NETNSA_NSID])[0])


def is_bound_to(device: Device, number: int) -> bool:
    """Return whether the socket of a tunnel is in the namespace that has this number in the device's own."""
    known = device.attributes.get(IFLA_LINK_NETNSID)
    return known is not None and number >= 0 and _SIGNED.unpack(known)[0] == number


def is_bound_elsewhere(device: Device, number: int) -> bool:
    """Return whether the socket of a tunnel is in a third namespace: neither in that one nor in the device's own."""
    return IFLA_LINK_NETNSID in device.attributes and not is_bound_to(device, number)


def alias(device: Device) -> str:
    """Return the alias of a link, empty when it has none."""
    return _text(device.attributes.get(IFLA_IFALIAS, b""))


def _number(value: bytes | None) -> int:
    """Return a number in host byte order; a missing attribute means 0."""
    return int(_NUMBER.unpack(value)[0]) if value else 0


def _flag(value: bytes | None) -> bool:
    return bool(value) and value != b"\0"


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _mac(value: bytes) -> MacAddress:
    return MacAddress(value.hex(":"))


def _address(packed: bytes) -> IpAddress:
    return IPv4Address(packed) if len(packed) == _IPV4_SIZE else IPv6Address(packed)


def _interface(packed: bytes, length: int) -> IpInterface:
    return IPv4Interface((packed, length)) if len(packed) == _IPV4_SIZE else IPv6Interface((packed, length))


def _network(packed: bytes, length: int) -> IpNetwork:
    return IPv4Network((packed, length)) if len(packed) == _IPV4_SIZE else IPv6Network((packed, length))


def device(payload: bytes) -> Device:
    """Return one link."""
    _, _, _, index, flags, _ = IFINFOMSG.unpack_from(payload)
    found = attributes(payload, IFINFOMSG.size)
    info = attributes(found.get(IFLA_LINKINFO, b""))
    name = InterfaceName(_text(found[IFLA_IFNAME]))
    return Device(index, name, _number(found.get(IFLA_MTU)), flags, _text(info.get(IFLA_INFO_KIND, b"")), found)


def links(ns: NamespaceRef, devices: Iterable[Device], names: Names) -> Iterator[Link]:
    """Yield links; `names` are those of all devices of the namespace."""
    for one in devices:
        yield _link(ns, one, names)


def _link(ns: NamespaceRef, one: Device, names: Names) -> Link:
    up = bool(one.flags & IFF_UP)
    if one.flags & IFF_LOOPBACK:
        return Link(ns, one.name, Loopback(), None, None, up)
    info = attributes(one.attributes.get(IFLA_LINKINFO, b""))
    master = names.get(_number(one.attributes.get(IFLA_MASTER)))
    mac = _mac(one.attributes.get(IFLA_ADDRESS, b""))
    return Link(ns, one.name, _kind(one, info), mac, one.mtu, up, _port(master, info), _alias(ns, one))


def _alias(ns: NamespaceRef, one: Device) -> str:
    """Return the alias of the host's end of a container's veth pair; aliases of other devices are ignored."""
    if not (ownership.is_network_namespace(ns) and one.name.startswith(ownership.VETH_PREFIX)):
        return ""
    return _text(one.attributes.get(IFLA_IFALIAS, b""))


def _kind(one: Device, info: Mapping[int, bytes]) -> LinkKind:
    match one.kind:
        case "vxlan":
            return _vxlan(one, attributes(info.get(IFLA_INFO_DATA, b"")))
        case "bridge":
            return Bridge()
        case "veth":
            return Veth()
        case kind:
            return Other(kind)


def _vxlan(one: Device, data: Mapping[int, bytes]) -> LinkKind:
    if IFLA_LINK_NETNSID not in one.attributes:
        return Other("vxlan with its socket inside the network's namespace")
    if _flag(data.get(IFLA_VXLAN_LEARNING)):
        return Other("vxlan that learns")
    local = data.get(IFLA_VXLAN_LOCAL) or data.get(IFLA_VXLAN_LOCAL6)
    if local is None:
        return Other("vxlan without a local address")
    (port,) = _PORT.unpack(data[IFLA_VXLAN_PORT])
    return Vxlan(Vni(_number(data[IFLA_VXLAN_ID])), _address(local), port)


def vxlan_place(one: Device) -> tuple[int, int] | None:
    """Return VNI and UDP port of a VXLAN device, ours or not; None for any other device."""
    if one.kind != "vxlan":
        return None
    info = attributes(one.attributes.get(IFLA_LINKINFO, b""))
    data = attributes(info.get(IFLA_INFO_DATA, b""))
    (port,) = _PORT.unpack(data.get(IFLA_VXLAN_PORT, bytes(2)))
    return _number(data.get(IFLA_VXLAN_ID)), port


def _port(master: InterfaceName | None, info: Mapping[int, bytes]) -> BridgePort | None:
    if master is None or info.get(IFLA_INFO_SLAVE_KIND) != b"bridge\0":
        return None
    data = attributes(info.get(IFLA_INFO_SLAVE_DATA, b""))
    return BridgePort(
        master,
        learning=_flag(data.get(IFLA_BRPORT_LEARNING)),
        unicast_flood=_flag(data.get(IFLA_BRPORT_UNICAST_FLOOD)),
        neigh_suppress=_flag(data.get(IFLA_BRPORT_NEIGH_SUPPRESS)),
    )


def addresses(ns: NamespaceRef, payloads: Iterable[bytes], names: Names) -> Iterator[Address]:
    """Yield the addresses of the named devices."""
    for payload in payloads:
        _, length, _, _, index = IFADDRMSG.unpack_from(payload)
        if index in names:
            yield Address(ns, names[index], _interface(_local(payload), length))


def local_address(payload: bytes) -> IpAddress:
    """Return the address that an RTM_NEWADDR message is about."""
    return _address(_local(payload))


def _local(payload: bytes) -> bytes:
    # IFA_ADDRESS is the far end's where there is an IFA_LOCAL too, which IPv6 has for such devices only.
    found = attributes(payload, IFADDRMSG.size)
    return found[IFA_LOCAL] if IFA_LOCAL in found else found[IFA_ADDRESS]


def address_device(payload: bytes) -> int:
    """Return the index of the device that has the address of an RTM_NEWADDR message."""
    return int(IFADDRMSG.unpack_from(payload)[4])


def is_permanent(payload: bytes) -> bool:
    """Return whether the neighbour of an RTM_NEWNEIGH message was set by a program, and not resolved by the kernel."""
    return bool(NDMSG.unpack_from(payload)[4] & NUD_PERMANENT)


def neighbour(ns: NamespaceRef, payload: bytes, names: Names) -> Neighbour | None:
    """Return the neighbour that is permanent, ours and on one of the named devices."""
    _, _, _, index, state, _, _ = NDMSG.unpack_from(payload)
    if not state & NUD_PERMANENT or index not in names:
        return None
    found = attributes(payload, NDMSG.size)
    if found.get(NDA_PROTOCOL) != _OURS:
        return None
    return Neighbour(ns, names[index], _address(found[NDA_DST]), _mac(found[NDA_LLADDR]))


def forwarding_entry(ns: NamespaceRef, payload: bytes, names: Names) -> FdbEntry | BridgeEntry | None:
    """Return our entry of a VXLAN device (NTF_SELF) or of a bridge.

    The VXLAN driver keeps flags for each MAC, not for each destination, and the last writer decides: a destination that
    others append to the flood list takes our mark from all of them. The flood list as a whole is ours, then.
    """
    _, _, _, index, _, flags, _ = NDMSG.unpack_from(payload)
    if index not in names:
        return None
    found = attributes(payload, NDMSG.size)
    mac = _mac(found[NDA_LLADDR])
    if not flags & NTF_EXT_LEARNED and mac != FLOOD:
        return None
    if flags & NTF_SELF and NDA_DST in found:
        return FdbEntry(ns, names[index], mac, _address(found[NDA_DST]))
    bridge = names.get(_number(found.get(NDA_MASTER)))
    return BridgeEntry(ns, bridge, mac, names[index]) if bridge else None


def is_foreign_route(payload: bytes) -> bool:
    """Return whether a route does not bear our mark, and is not the kernel's own route to an address of this host."""
    _, _, _, _, table, protocol, *_ = RTMSG.unpack_from(payload)
    return bool(protocol != ownership.PROTOCOL and table != RT_TABLE_LOCAL)


def route_device(payload: bytes) -> int:
    """Return the index of the device of a route, 0 for one that has none, or several."""
    return _number(attributes(payload, RTMSG.size).get(RTA_OIF))


def destination(payload: bytes) -> IpNetwork | None:
    """Return the destination of a route of the main table, None for default routes and those that every device has."""
    family, length, _, _, table, *_ = RTMSG.unpack_from(payload)
    if table != RT_TABLE_MAIN or not length:
        return None
    dst = _network(attributes(payload, RTMSG.size).get(RTA_DST, _ANY[family]), length)
    return None if dst.is_link_local or dst.is_multicast else dst


def default_devices(payload: bytes) -> Iterator[int]:
    """Yield the indexes of the devices of a route, when it is a default route of the main table."""
    _, length, _, _, table, *_ = RTMSG.unpack_from(payload)
    if table == RT_TABLE_MAIN and not length:
        yield from route_devices(payload)


def route_devices(payload: bytes) -> Iterator[int]:
    """Yield the indexes of the devices of a route, which may have several."""
    found = attributes(payload, RTMSG.size)
    if index := _number(found.get(RTA_OIF)):
        yield index
    yield from (index for index, _ in _ways(found))


def route_mtu(payload: bytes) -> int | None:
    """Return the MTU that a route was given, in bytes; None when it is that of its device."""
    metrics = attributes(attributes(payload, RTMSG.size).get(RTA_METRICS, b""))
    return _number(metrics.get(RTAX_MTU)) or None


def next_hops(payload: bytes) -> Iterator[IpAddress]:
    """Yield the gateways of a route: of one way, or of each of several (struct rtnexthop, linux/rtnetlink.h)."""
    found = attributes(payload, RTMSG.size)
    yield from _gateway(found)
    for _, way in _ways(found):
        yield from _gateway(way)


def _ways(found: Mapping[int, bytes]) -> Iterator[tuple[int, Mapping[int, bytes]]]:
    """Yield the device and the attributes of each way of a route that has several."""
    several, offset = found.get(RTA_MULTIPATH, b""), 0
    while len(several) - offset >= RTNEXTHOP.size:
        length, _, _, index = RTNEXTHOP.unpack_from(several, offset)
        if length < RTNEXTHOP.size:
            return
        yield index, attributes(several[offset : offset + length], RTNEXTHOP.size)
        offset += aligned(length)


def _gateway(found: Mapping[int, bytes]) -> Iterator[IpAddress]:
    if RTA_GATEWAY in found:
        yield _address(found[RTA_GATEWAY])
    if RTA_VIA in found:  # a gateway of the other family: struct rtvia, the address behind two bytes
        yield _address(found[RTA_VIA][2:])


def route(ns: NamespaceRef, payload: bytes, names: Names) -> Route | None:
    """Return the route if it has our protocol; the kernel has filtered most others already."""
    family, length, _, tos, _, protocol, _, kind, _ = RTMSG.unpack_from(payload)
    if protocol != ownership.PROTOCOL or tos:
        return None
    found = attributes(payload, RTMSG.size)
    dst = _network(found.get(RTA_DST, _ANY[family]), length)
    metric = _number(found.get(RTA_PRIORITY))
    dev = names.get(_number(found.get(RTA_OIF)))
    if kind == RTN_UNREACHABLE:
        return Route(ns, dst, None, None, metric)
    if kind != RTN_UNICAST or dev is None:
        return None
    gateway = found.get(RTA_GATEWAY)
    return Route(ns, dst, dev, _address(gateway) if gateway else None, metric)


def tells_of_offloads(payload: bytes) -> bool:
    """Return whether a link message reports a change of a VXLAN device's offloads."""
    one = device(payload)
    return one.kind == "vxlan" and _number(one.attributes.get(IFLA_EVENT)) == IFLA_EVENT_FEATURES


def family(payload: bytes) -> int:
    """Return the address family, with which every rtnetlink payload begins."""
    return payload[0]


def link_index(payload: bytes) -> int:
    """Return the index of the device that a link or a neighbour message is about: it stands at one place in both."""
    return int(IFINFOMSG.unpack_from(payload)[3])


def port_flags(payload: bytes) -> tuple[bool, bool, bool] | None:
    """Return learning, unicast flood and neighbour suppression of an AF_BRIDGE link message, if it has them."""
    data = attributes(attributes(payload, IFINFOMSG.size).get(IFLA_PROTINFO, b""))
    flags = (IFLA_BRPORT_LEARNING, IFLA_BRPORT_UNICAST_FLOOD, IFLA_BRPORT_NEIGH_SUPPRESS)
    learning, flood, suppress = (data.get(flag) for flag in flags)
    return None if learning is None else (_flag(learning), _flag(flood), _flag(suppress))


def forwarding_mac(payload: bytes) -> MacAddress:
    """Return the MAC of a forwarding entry."""
    return _mac(attributes(payload, NDMSG.size)[NDA_LLADDR])


def forwarding_key(payload: bytes) -> tuple[object, ...]:
    """Return the key of a forwarding entry in its namespace."""
    found = attributes(payload, NDMSG.size)
    return (link_index(payload), found[NDA_LLADDR], found.get(NDA_DST))


def netconf_index(payload: bytes) -> int:
    """Return the device that an RTM_NEWNETCONF message is about; below 0 for `all` and `default` (linux/netconf.h)."""
    value = attributes(payload, 4).get(NETCONFA_IFINDEX, bytes(4))
    return int.from_bytes(value, sys.byteorder, signed=True)


def netconf_sysctls(payload: bytes) -> Mapping[str, str]:
    """Return the sysctls of one device in an RTM_NEWNETCONF message, by those of DEVICE_SYSCTLS."""
    found = attributes(payload, 4)
    known = _NETCONF_SYSCTLS.get(family(payload), {})
    return {name: str(_number(found[kind])) for kind, name in known.items() if kind in found}


def device_sysctls(one: Device) -> Mapping[str, str]:
    """Return the sysctls of a device, by those of DEVICE_SYSCTLS; IPv6's are missing on a device without IPv6."""
    inet = attributes(one.attributes.get(IFLA_AF_SPEC, b""))
    values: dict[str, str] = {}
    for version, (kind, places) in _DEVICE_SYSCTLS.items():
        conf = attributes(inet.get(version, b"")).get(kind, b"")
        values |= {name: str(_number(conf[4 * at : 4 * at + 4])) for name, at in places.items() if len(conf) > 4 * at}
    return values
