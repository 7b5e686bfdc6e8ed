"""From links to rtnetlink messages with sequence number 0 (linux/if_link.h, linux/veth.h). Links are addressed by name.

Links are rare, so their messages are put together attribute by attribute.
"""

import hashlib
import socket
import struct

from overlayd.dataplane import ownership
from overlayd.dataplane.items import Bridge, BridgePort, Link, Veth, VethPeer, Vxlan
from overlayd.kernel.netlink.encode import NLM_F_CREATE, NLM_F_EXCL, RTM_GETLINK
from overlayd.kernel.netlink.transport import HEADER, NLM_F_DUMP, NLM_F_REQUEST
from overlayd.model.ids import InterfaceName, MacAddress

IFF_UP = 1

_RTM_NEWLINK, _RTM_DELLINK, _RTM_SETLINK = 16, 17, 19

_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_MASTER = 10
_IFLA_LINKINFO = 18
_IFLA_IFALIAS = 20
_IFLA_AF_SPEC = 26
_IFLA_GROUP = 27
_IFLA_NET_NS_FD = 28
_IFLA_EXT_MASK = 29
_IFLA_NUM_TX_QUEUES = 31
_IFLA_NUM_RX_QUEUES = 32

_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
_IFLA_VXLAN_ID, _IFLA_VXLAN_LOCAL, _IFLA_VXLAN_LEARNING, _IFLA_VXLAN_PORT = 1, 4, 7, 15
_IFLA_VXLAN_LOCAL6, _IFLA_VXLAN_UDP_CSUM = 17, 18
_IFLA_BR_STP_STATE, _IFLA_BR_MCAST_SNOOPING = 5, 23
_IFLA_BRPORT_LEARNING, _IFLA_BRPORT_UNICAST_FLOOD, _IFLA_BRPORT_NEIGH_SUPPRESS = 8, 9, 32
_VETH_INFO_PEER = 1
_RTM_GETNSID, _NETNSA_FD = 90, 3
_IFLA_INET6_ADDR_GEN_MODE = 8

_VXLAN_LOCAL = {4: _IFLA_VXLAN_LOCAL, 6: _IFLA_VXLAN_LOCAL6}

_IFINFOMSG = struct.Struct("=BBHiII")
_ATTRIBUTE = struct.Struct("=HH")

_CHOSEN_INDEX_BASE = 1 << 30
REAPED_GROUP = 0x6F760001
"""The link group into which links go that are to be deleted at one stroke."""


def _attribute(kind: int, payload: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _flag(kind: int, *, value: bool) -> bytes:
    return _attribute(kind, bytes([value]))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _mac(value: MacAddress) -> bytes:
    return _attribute(_IFLA_ADDRESS, bytes.fromhex(value.replace(":", "")))


def _message(kind: int, flags: int, *attributes: bytes, index: int = 0, up: bool | None = None) -> bytes:
    state, mask = (0, 0) if up is None else (IFF_UP * up, IFF_UP)
    body = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, index, state, mask) + b"".join(attributes)
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, 0, 0) + body


def chosen_indexes(name: InterfaceName) -> tuple[int, int]:
    """Return indexes for both ends of a veth pair, from where the kernel's own counting never reaches.

    The two ends must not have equal indexes, as they may when each namespace counts for itself: the kernel then takes
    the carrier's change for one that may wait, up to a second (net/core/link_watch.c: linkwatch_urgent_event).
    """
    digest = hashlib.blake2s(name.encode(), digest_size=4).digest()
    index = _CHOSEN_INDEX_BASE | int.from_bytes(digest) >> 2
    return index, index ^ 1


def created(link: Link, *, up: bool, fd: int | None = None, indexes: tuple[int, int] = (0, 0)) -> bytes:
    """Return the message that creates a link; `indexes` are its own and that of the far end of a pair, 0 for any.

    A bridge's MTU is left out, as it would not last: it has to be changed afterwards.
    `fd` is the namespace of a VXLAN device (which stays bound to the socket's one), or that of a veth's peer.
    """
    attributes = [_text(_IFLA_IFNAME, link.name), *_settings(link)]
    if isinstance(link.kind, Vxlan) and fd is not None:
        attributes.append(_number(_IFLA_NET_NS_FD, fd))
    if isinstance(link.kind, Veth):
        attributes += _single_queue()
    near, far = indexes
    attributes.append(_link_info(link, fd, far))
    return _message(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, *attributes, index=near, up=up)


def _settings(link: Link) -> list[bytes]:
    mac = [_mac(link.mac)] if link.mac else []
    mtu = [_number(_IFLA_MTU, link.mtu)] if link.mtu and not isinstance(link.kind, Bridge) else []
    return [*mac, *mtu]


def _single_queue() -> list[bytes]:
    """Return the attributes for one queue each way; by default a veth gets one per CPU, which costs time to create."""
    return [_number(_IFLA_NUM_TX_QUEUES, 1), _number(_IFLA_NUM_RX_QUEUES, 1)]


def _link_info(link: Link, fd: int | None, far: int) -> bytes:
    match link.kind:
        case Vxlan() as vxlan:
            kind, data = "vxlan", _vxlan(vxlan)
        case Bridge():
            kind, data = "bridge", _number(_IFLA_BR_STP_STATE, 0) + _flag(_IFLA_BR_MCAST_SNOOPING, value=False)
        case Veth(peer=VethPeer() as peer):
            kind, data = "veth", _attribute(_VETH_INFO_PEER, _peer(peer, link.mtu, fd, far))
        case _:
            raise ValueError(f"{link.name} cannot be created: it comes with its namespace or its peer")
    return _attribute(_IFLA_LINKINFO, _text(_IFLA_INFO_KIND, kind) + _attribute(_IFLA_INFO_DATA, data))


def _vxlan(vxlan: Vxlan) -> bytes:
    return b"".join(
        [
            _number(_IFLA_VXLAN_ID, vxlan.vni),
            _attribute(_VXLAN_LOCAL[vxlan.local.version], vxlan.local.packed),
            _flag(_IFLA_VXLAN_LEARNING, value=False),
            _attribute(_IFLA_VXLAN_PORT, struct.pack("!H", vxlan.port)),
            # RFC 7348 section 4.1: the outer UDP checksum should be zero over IPv4; the inner packet has its own.
            # Over IPv6 there is one (RFC 8200 section 8.1).
            _flag(_IFLA_VXLAN_UDP_CSUM, value=False),
        ]
    )


def _peer(peer: VethPeer, mtu: int | None, fd: int | None, index: int) -> bytes:
    """Return struct ifinfomsg and the attributes of the far end. IFF_UP is refused there (ENOTCONN)."""
    attributes = [_text(_IFLA_IFNAME, peer.name), _mac(peer.mac), *_single_queue()]
    if mtu is not None:
        attributes.append(_number(_IFLA_MTU, mtu))
    if fd is not None:
        attributes.append(_number(_IFLA_NET_NS_FD, fd))
    return _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, index, 0, 0) + b"".join(attributes)


def changed(  # noqa: PLR0913 - each is a setting of a link
    name: InterfaceName,
    *,
    mac: MacAddress | None = None,
    mtu: int | None = None,
    master: int | None = None,
    alias: str | None = None,
    up: bool | None = None,
) -> bytes:
    """Return the message that changes what is not None. `master` is an index, 0 for none; an empty alias is none."""
    attributes = [_text(_IFLA_IFNAME, name)]
    if mac is not None:
        attributes.append(_mac(mac))
    if mtu is not None:
        attributes.append(_number(_IFLA_MTU, mtu))
    if master is not None:
        attributes.append(_number(_IFLA_MASTER, master))
    if alias is not None:
        attributes.append(_attribute(_IFLA_IFALIAS, alias.encode()))
    return _message(_RTM_SETLINK, 0, *attributes, up=up)


def without_addresses(name: InterfaceName) -> bytes:
    """Return the message that lets a device have no IPv6 address that nobody gives it (IN6_ADDR_GEN_MODE_NONE)."""
    inet6 = _attribute(socket.AF_INET6, _flag(_IFLA_INET6_ADDR_GEN_MODE, value=True))
    return _message(_RTM_SETLINK, 0, _text(_IFLA_IFNAME, name), _attribute(_IFLA_AF_SPEC, inet6))


def port_changed(name: InterfaceName, port: BridgePort) -> bytes:
    """Return the message that sets the flags of a bridge's port."""
    data = [
        _flag(_IFLA_BRPORT_LEARNING, value=port.learning),
        _flag(_IFLA_BRPORT_UNICAST_FLOOD, value=port.unicast_flood),
        _flag(_IFLA_BRPORT_NEIGH_SUPPRESS, value=port.neigh_suppress),
    ]
    info = _text(_IFLA_INFO_SLAVE_KIND, "bridge") + _attribute(_IFLA_INFO_SLAVE_DATA, b"".join(data))
    # Slave data is taken from RTM_NEWLINK only; without NLM_F_CREATE it changes a device that is there.
    return _message(_RTM_NEWLINK, 0, _text(_IFLA_IFNAME, name), _attribute(_IFLA_LINKINFO, info))


def deleted(name: InterfaceName) -> bytes:
    """Return the message that deletes one link."""
    return _message(_RTM_DELLINK, 0, _text(_IFLA_IFNAME, name))


def namespace_number_request(fd: int) -> bytes:
    """Return the request for the number by which a socket's namespace knows another one (linux/net_namespace.h)."""
    body = struct.pack("=Bxxx", socket.AF_UNSPEC) + _number(_NETNSA_FD, fd)
    return HEADER.pack(HEADER.size + len(body), _RTM_GETNSID, NLM_F_REQUEST, 0, 0) + body


def aliased(name: InterfaceName, alias: str) -> bytes:
    """Return the message that gives a link an alias, a text for people which the kernel only keeps."""
    return _message(_RTM_SETLINK, 0, _text(_IFLA_IFNAME, name), _text(_IFLA_IFALIAS, alias))


def doomed(name: InterfaceName) -> bytes:
    """Return the message that puts a link into the group to be deleted."""
    return _message(_RTM_SETLINK, 0, _text(_IFLA_IFNAME, name), _number(_IFLA_GROUP, REAPED_GROUP))


def retired(index: int) -> list[bytes]:
    """Return the messages that take a link out of use, into the group to be deleted.

    Before Linux 6.2 a device that is up keeps its name, so it goes down in a message of its own.
    """
    name = InterfaceName(f"{ownership.RETIRED_PREFIX}{index}")
    marks = [_text(_IFLA_IFNAME, name), _number(_IFLA_GROUP, REAPED_GROUP)]
    return [_message(_RTM_SETLINK, 0, index=index, up=False), _message(_RTM_SETLINK, 0, *marks, index=index)]


def group_deleted() -> bytes:
    """Return the message that deletes the whole group, for which the kernel waits one RCU grace period only."""
    return _message(_RTM_DELLINK, 0, _number(_IFLA_GROUP, REAPED_GROUP))


def link_request(name: InterfaceName) -> bytes:
    """Return the request for one link."""
    return _message(RTM_GETLINK, 0, _text(_IFLA_IFNAME, name), _number(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS))


def link_request_by_index(index: int) -> bytes:
    """Return the request for one link by its index."""
    return _message(RTM_GETLINK, 0, _number(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS), index=index)


_RTEXT_FILTER_SKIP_STATS = 1 << 3
LINKS = _message(RTM_GETLINK, NLM_F_DUMP, _number(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS))
