"""From messages about links to devices and links (linux/if_link.h)."""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from overlayd.dataplane import ownership
from overlayd.dataplane.items import (
    Bridge,
    BridgePort,
    Link,
    LinkKind,
    Loopback,
    NamespaceRef,
    Other,
    Veth,
    Vxlan,
)
from overlayd.kernel.netlink.decoding.values import (
    Names,
    parsed_address,
    parsed_flag,
    parsed_mac,
    parsed_number,
    parsed_text,
)
from overlayd.kernel.netlink.framing import ATTRIBUTE, attributes
from overlayd.kernel.netlink.rtnetlink import (
    IFF_LOOPBACK,
    IFF_LOWER_UP,
    IFF_UP,
    IFINFOMSG,
    IFLA_ADDRESS,
    IFLA_BRPORT_LEARNING,
    IFLA_BRPORT_NEIGH_SUPPRESS,
    IFLA_BRPORT_UNICAST_FLOOD,
    IFLA_CARRIER_DOWN_COUNT,
    IFLA_EVENT,
    IFLA_EVENT_FEATURES,
    IFLA_IFALIAS,
    IFLA_IFNAME,
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
    NETNSA_NSID,
    RTGENMSG,
)
from overlayd.model.ids import InterfaceName, Vni

_SIGNED = struct.Struct("=i")

_PORT = struct.Struct("!H")


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
        return parsed_number(self.attributes.get(IFLA_LINK))

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
        return parsed_number(self.attributes.get(IFLA_CARRIER_DOWN_COUNT))


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
    return parsed_text(device.attributes.get(IFLA_IFALIAS, b""))


def device(payload: bytes) -> Device:
    """Return one link."""
    _, _, _, index, flags, _ = IFINFOMSG.unpack_from(payload)
    found = attributes(payload, IFINFOMSG.size)
    info = attributes(found.get(IFLA_LINKINFO, b""))
    name = InterfaceName(parsed_text(found[IFLA_IFNAME]))
    return Device(
        index, name, parsed_number(found.get(IFLA_MTU)), flags, parsed_text(info.get(IFLA_INFO_KIND, b"")), found
    )


def name(payload: bytes) -> InterfaceName:
    """Return the name of one link; it stands first, or else the whole message is decoded."""
    start = IFINFOMSG.size
    length, kind = ATTRIBUTE.unpack_from(payload, start)
    if kind == IFLA_IFNAME:
        return InterfaceName(parsed_text(payload[start + ATTRIBUTE.size : start + length]))
    return device(payload).name


def may_be_tunnel(payload: bytes) -> bool:
    """Return whether one link may be a VXLAN device, without decoding it."""
    return b"vxlan\0" in payload


def links(ns: NamespaceRef, devices: Iterable[Device], names: Names) -> Iterator[Link]:
    """Yield links; `names` are those of all devices of the namespace."""
    for one in devices:
        yield _link(ns, one, names)


def _link(ns: NamespaceRef, one: Device, names: Names) -> Link:
    up = bool(one.flags & IFF_UP)
    if one.flags & IFF_LOOPBACK:
        return Link(ns, one.name, Loopback(), None, None, up)
    info = attributes(one.attributes.get(IFLA_LINKINFO, b""))
    master = names.get(parsed_number(one.attributes.get(IFLA_MASTER)))
    mac = parsed_mac(one.attributes.get(IFLA_ADDRESS, b""))
    return Link(ns, one.name, _kind(one, info), mac, one.mtu, up, _port(master, info), _alias(ns, one))


def _alias(ns: NamespaceRef, one: Device) -> str:
    """Return the alias of the host's end of a container's veth pair; aliases of other devices are ignored."""
    if not (ownership.is_network_namespace(ns) and one.name.startswith(ownership.VETH_PREFIX)):
        return ""
    return parsed_text(one.attributes.get(IFLA_IFALIAS, b""))


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
    if parsed_flag(data.get(IFLA_VXLAN_LEARNING)):
        return Other("vxlan that learns")
    local = data.get(IFLA_VXLAN_LOCAL) or data.get(IFLA_VXLAN_LOCAL6)
    if local is None:
        return Other("vxlan without a local address")
    (port,) = _PORT.unpack(data[IFLA_VXLAN_PORT])
    return Vxlan(Vni(parsed_number(data[IFLA_VXLAN_ID])), parsed_address(local), port)


def vxlan_place(one: Device) -> tuple[int, int] | None:
    """Return VNI and UDP port of a VXLAN device, ours or not; None for any other device."""
    if one.kind != "vxlan":
        return None
    info = attributes(one.attributes.get(IFLA_LINKINFO, b""))
    data = attributes(info.get(IFLA_INFO_DATA, b""))
    (port,) = _PORT.unpack(data.get(IFLA_VXLAN_PORT, bytes(2)))
    return parsed_number(data.get(IFLA_VXLAN_ID)), port


def _port(master: InterfaceName | None, info: Mapping[int, bytes]) -> BridgePort | None:
    if master is None or info.get(IFLA_INFO_SLAVE_KIND) != b"bridge\0":
        return None
    data = attributes(info.get(IFLA_INFO_SLAVE_DATA, b""))
    return BridgePort(
        master,
        learning=parsed_flag(data.get(IFLA_BRPORT_LEARNING)),
        unicast_flood=parsed_flag(data.get(IFLA_BRPORT_UNICAST_FLOOD)),
        neigh_suppress=parsed_flag(data.get(IFLA_BRPORT_NEIGH_SUPPRESS)),
    )


def tells_of_offloads(one: Device) -> bool:
    """Return whether a link message reports a change of a VXLAN device's offloads."""
    return one.kind == "vxlan" and parsed_number(one.attributes.get(IFLA_EVENT)) == IFLA_EVENT_FEATURES


def port_flags(payload: bytes) -> tuple[bool, bool, bool] | None:
    """Return learning, unicast flood and neighbour suppression of an AF_BRIDGE link message, if it has them."""
    data = attributes(attributes(payload, IFINFOMSG.size).get(IFLA_PROTINFO, b""))
    flags = (IFLA_BRPORT_LEARNING, IFLA_BRPORT_UNICAST_FLOOD, IFLA_BRPORT_NEIGH_SUPPRESS)
    learning, flood, suppress = (data.get(flag) for flag in flags)
    return None if learning is None else (parsed_flag(learning), parsed_flag(flood), parsed_flag(suppress))
