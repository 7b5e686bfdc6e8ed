"""From the entries of tables to rtnetlink messages with sequence number 0, and the requests for whole tables.

A network holds such entries for each remote host and each endpoint, so every shape is packed by one precompiled struct.
Names are those of linux/rtnetlink.h, linux/if_addr.h and linux/neighbour.h.
"""

import socket
import struct
from collections.abc import Callable, Mapping
from enum import Enum
from typing import cast

from overlayd.dataplane import ownership
from overlayd.dataplane.items import FLOOD, Address, BridgeEntry, FdbEntry, Item, Neighbour, RateLimit, Route
from overlayd.dataplane.ownership import PROTOCOL
from overlayd.kernel.netlink import qdisc
from overlayd.kernel.netlink.transport import HEADER, NLM_F_DUMP, NLM_F_REQUEST
from overlayd.model.address import IpAddress
from overlayd.model.ids import InterfaceName, MacAddress

Indexes = Mapping[InterfaceName, int]
"""Interface indexes of one namespace."""

NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

RTM_GETLINK = 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTM_GETNEIGH = 28, 29, 30

_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD = 0x02
_NDA_DST, _NDA_LLADDR, _NDA_PROTOCOL = 1, 2, 12
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 4, 5, 6

NUD_NOARP = 0x40
NUD_PERMANENT = 0x80
NTF_SELF = 0x02
NTF_MASTER = 0x04
NTF_EXT_LEARNED = 0x10

RT_TABLE_UNSPEC, RT_TABLE_MAIN = 0, 254
RTN_UNICAST, RTN_UNREACHABLE = 1, 7
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_RTNH_F_ONLINK = 4

_NDMSG = "BBHiHBB"  # family, padding, padding, index, state, flags, type
_RTMSG = "BBBBBBBBI"  # family, destination's length, source's, tos, table, protocol, scope, type, flags
_IFADDRMSG = "BBBBI"  # family, prefix length, flags, scope, index
_MAC = "HH6s2x"
_NUMBER = "HHI"
_BYTE = "HHB3x"
_HEADER = "=IHHII"

_BRIDGE_ENTRY = struct.Struct(_HEADER + _NDMSG + _MAC)


class _Shapes:
    """The messages with addresses of one family, which are `width` bytes long.

    `attribute` is the length of an attribute that holds an address, `on_link` the flag of a route whose next hop is
    taken to be on the link: IPv6 next hops are link-local, which are so anyway.
    """

    def __init__(self, family: int, width: int, *, on_link: int, address_flags: int) -> None:
        address = f"HH{width}s"
        self.family = family
        self.attribute = 4 + width
        self.on_link = on_link
        self.address_flags = address_flags
        self.address = struct.Struct(_HEADER + _IFADDRMSG + address * 2)
        self.neighbour = struct.Struct(_HEADER + _NDMSG + address + _MAC + _BYTE)
        self.cached_neighbour = struct.Struct(_HEADER + _NDMSG + address)
        self.fdb_entry = struct.Struct(_HEADER + _NDMSG + _MAC + address)
        self.route_via = struct.Struct(_HEADER + _RTMSG + address + _NUMBER + address + _NUMBER)
        self.route_dev = struct.Struct(_HEADER + _RTMSG + address + _NUMBER * 2)
        self.route_unreachable = struct.Struct(_HEADER + _RTMSG + address + _NUMBER)


# Duplicate address detection would keep an IPv6 address from being used for a second or more.
_SHAPES = {
    4: _Shapes(socket.AF_INET, 4, on_link=_RTNH_F_ONLINK, address_flags=0),
    6: _Shapes(socket.AF_INET6, 16, on_link=0, address_flags=_IFA_F_NODAD),
}


class Verb(Enum):
    """What to do with an entry. The value holds the flags of the message."""

    ADD = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL
    REPLACE = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE
    DELETE = NLM_F_REQUEST


def entry(verb: Verb, item: Item, indexes: Indexes) -> bytes:
    """Return the message that adds, replaces or deletes what hangs on a link."""
    return _ENCODERS[type(item)](verb, item, indexes)


def _mac(text: MacAddress) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _address(verb: Verb, item: Address, indexes: Indexes) -> bytes:
    shapes, packed = _SHAPES[item.address.version], item.address.packed
    # What an uplink's end is called by the other end is no source address for anything beyond.
    beside = item.address.ip.is_link_local and item.dev not in {ownership.LOOPBACK, ownership.BRIDGE}
    scope = _RT_SCOPE_LINK if beside else _RT_SCOPE_UNIVERSE
    return shapes.address.pack(
        *(shapes.address.size, _RTM_DELADDR if verb is Verb.DELETE else _RTM_NEWADDR, verb.value, 0, 0),
        *(shapes.family, item.address.network.prefixlen, shapes.address_flags, scope, indexes[item.dev]),
        *(shapes.attribute, _IFA_LOCAL, packed),
        *(shapes.attribute, _IFA_ADDRESS, packed),
    )


def _neighbour(verb: Verb, item: Neighbour, indexes: Indexes) -> bytes:
    shapes = _SHAPES[item.address.version]
    return shapes.neighbour.pack(
        *(shapes.neighbour.size, _RTM_DELNEIGH if verb is Verb.DELETE else _RTM_NEWNEIGH, verb.value, 0, 0),
        *(shapes.family, 0, 0, indexes[item.dev], NUD_PERMANENT, 0, 0),
        *(shapes.attribute, _NDA_DST, item.address.packed),
        *(10, _NDA_LLADDR, _mac(item.mac)),
        *(5, _NDA_PROTOCOL, PROTOCOL),
    )


def _fdb_entry(verb: Verb, item: FdbEntry, indexes: Indexes) -> bytes:
    flags, shapes = verb.value, _SHAPES[item.dst.version]
    if item.mac == FLOOD and verb is not Verb.DELETE:
        # The flood list is one entry with many destinations: each is appended, and one that is there stays.
        flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_APPEND
    return shapes.fdb_entry.pack(
        *(shapes.fdb_entry.size, _RTM_DELNEIGH if verb is Verb.DELETE else _RTM_NEWNEIGH, flags, 0, 0),
        *(socket.AF_BRIDGE, 0, 0, indexes[item.dev], NUD_PERMANENT, NTF_SELF | NTF_EXT_LEARNED, 0),
        *(10, _NDA_LLADDR, _mac(item.mac)),
        *(shapes.attribute, _NDA_DST, item.dst.packed),
    )


def _bridge_entry(verb: Verb, item: BridgeEntry, indexes: Indexes) -> bytes:
    # One that leads to the bridge itself is put at the bridge, and the kernel takes it as permanent only
    # (net/bridge/br_fdb.c: __br_fdb_add).
    state, at = (NUD_PERMANENT, NTF_SELF) if item.dev == item.bridge else (NUD_NOARP, NTF_MASTER)
    return _BRIDGE_ENTRY.pack(
        *(_BRIDGE_ENTRY.size, _RTM_DELNEIGH if verb is Verb.DELETE else _RTM_NEWNEIGH, verb.value, 0, 0),
        *(socket.AF_BRIDGE, 0, 0, indexes[item.dev], state, at | NTF_EXT_LEARNED, 0),
        *(10, _NDA_LLADDR, _mac(item.mac)),
    )


def _route(verb: Verb, item: Route, indexes: Indexes) -> bytes:
    kind = _RTM_DELROUTE if verb is Verb.DELETE else _RTM_NEWROUTE
    shapes, length = _SHAPES[item.dst.version], item.dst.prefixlen
    dst = item.dst.network_address.packed
    if item.dev is None:
        return shapes.route_unreachable.pack(
            *(shapes.route_unreachable.size, kind, verb.value, 0, 0),
            *(shapes.family, length, 0, 0, RT_TABLE_MAIN, PROTOCOL, _RT_SCOPE_UNIVERSE, RTN_UNREACHABLE, 0),
            *(shapes.attribute, _RTA_DST, dst),
            *(8, _RTA_PRIORITY, item.metric),
        )
    if item.via is None:
        return shapes.route_dev.pack(
            *(shapes.route_dev.size, kind, verb.value, 0, 0),
            *(shapes.family, length, 0, 0, RT_TABLE_MAIN, PROTOCOL, _RT_SCOPE_LINK, RTN_UNICAST, 0),
            *(shapes.attribute, _RTA_DST, dst),
            *(8, _RTA_OIF, indexes[item.dev]),
            *(8, _RTA_PRIORITY, item.metric),
        )
    return shapes.route_via.pack(
        *(shapes.route_via.size, kind, verb.value, 0, 0),
        *(shapes.family, length, 0, 0, RT_TABLE_MAIN, PROTOCOL, _RT_SCOPE_UNIVERSE, RTN_UNICAST, shapes.on_link),
        *(shapes.attribute, _RTA_DST, dst),
        *(8, _RTA_OIF, indexes[item.dev]),
        *(shapes.attribute, _RTA_GATEWAY, item.via.packed),
        *(8, _RTA_PRIORITY, item.metric),
    )


def _rate_limit(verb: Verb, item: RateLimit, indexes: Indexes) -> bytes:
    return qdisc.entry(verb.value, item, indexes[item.dev], gone=verb is Verb.DELETE)


_Encoder = Callable[[Verb, Item, Indexes], bytes]
_ENCODERS: dict[type[Item], _Encoder] = {
    Address: cast("_Encoder", _address),
    Neighbour: cast("_Encoder", _neighbour),
    FdbEntry: cast("_Encoder", _fdb_entry),
    BridgeEntry: cast("_Encoder", _bridge_entry),
    Route: cast("_Encoder", _route),
    RateLimit: cast("_Encoder", _rate_limit),
}


def neighbour_request(item: Neighbour, indexes: Indexes) -> bytes:
    """Return the request for one neighbour, whatever its state."""
    shapes = _SHAPES[item.address.version]
    return shapes.cached_neighbour.pack(
        *(shapes.cached_neighbour.size, _RTM_GETNEIGH, NLM_F_REQUEST, 0, 0),
        *(shapes.family, 0, 0, indexes[item.dev], 0, 0, 0),
        *(shapes.attribute, _NDA_DST, item.address.packed),
    )


def _table_request(kind: int, body: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + body


_FAMILIES = (socket.AF_INET, socket.AF_INET6)
ADDRESSES = tuple(
    _table_request(_RTM_GETADDR, struct.pack("=" + _IFADDRMSG, family, 0, 0, 0, 0)) for family in _FAMILIES
)
"""One request for each family, as for neighbours and routes: the kernel keeps them in different tables."""

NEIGHBOURS = tuple(
    _table_request(_RTM_GETNEIGH, struct.pack("=" + _NDMSG, family, 0, 0, 0, 0, 0, 0)) for family in _FAMILIES
)
FDB_ENTRIES = _table_request(_RTM_GETNEIGH, struct.pack("=" + _NDMSG, socket.AF_BRIDGE, 0, 0, 0, 0, 0, 0))
_RTM_F_FIB_MATCH, _RTA_DST = 0x2000, 1
ALL_ROUTES = tuple(
    _table_request(_RTM_GETROUTE, struct.pack("=" + _RTMSG, family, 0, 0, 0, 0, 0, 0, 0, 0)) for family in _FAMILIES
)
"""Those of every table and protocol, ours among them."""


def route_request(address: IpAddress) -> bytes:
    """Return the request for the route that packets to an address take (RTM_F_FIB_MATCH: as it was configured)."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IPv4
    packed = address.packed
    body = struct.pack("=" + _RTMSG, family, 8 * len(packed), 0, 0, 0, 0, 0, 0, _RTM_F_FIB_MATCH)
    attribute = struct.pack("=HH", 4 + len(packed), _RTA_DST) + packed
    size = HEADER.size + len(body) + len(attribute)
    return HEADER.pack(size, _RTM_GETROUTE, NLM_F_REQUEST, 0, 0) + body + attribute


ROUTES_OF_ALL_TABLES = tuple(
    _table_request(_RTM_GETROUTE, struct.pack("=" + _RTMSG, family, 0, 0, 0, RT_TABLE_UNSPEC, PROTOCOL, 0, 0, 0))
    for family in _FAMILIES
)
"""Those of our protocol, wherever another program has moved them."""

ROUTES = tuple(
    # NETLINK_GET_STRICT_CHK makes the kernel filter by table and protocol.
    _table_request(_RTM_GETROUTE, struct.pack("=" + _RTMSG, family, 0, 0, 0, RT_TABLE_MAIN, PROTOCOL, 0, 0, 0))
    for family in _FAMILIES
)
