"""From the entries of tables to rtnetlink messages with sequence number 0, and the requests for whole tables.

A network holds such entries for each remote host and each endpoint, so every shape is packed by one precompiled struct.
Names are those of linux/rtnetlink.h, linux/if_addr.h and linux/neighbour.h.
"""

import socket
import struct
from collections.abc import Callable, Mapping
from enum import Enum
from typing import cast

from overlayd.dataplane.items import FLOOD, Address, BridgeEntry, FdbEntry, Item, Neighbour, Route
from overlayd.dataplane.ownership import PROTOCOL
from overlayd.kernel.netlink import HEADER, NLM_F_DUMP, NLM_F_REQUEST
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
_NDA_DST, _NDA_LLADDR, _NDA_PROTOCOL = 1, 2, 12
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 4, 5, 6

NUD_NOARP = 0x40
NUD_PERMANENT = 0x80
NTF_SELF = 0x02
NTF_MASTER = 0x04
NTF_EXT_LEARNED = 0x10

RT_TABLE_MAIN = 254
RTN_UNICAST, RTN_UNREACHABLE = 1, 7
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_RTNH_F_ONLINK = 4

_NDMSG = "BBHiHBB"  # family, padding, padding, index, state, flags, type
_RTMSG = "BBBBBBBBI"  # family, destination's length, source's, tos, table, protocol, scope, type, flags
_IFADDRMSG = "BBBBI"  # family, prefix length, flags, scope, index
_IPV4 = "HH4s"
_MAC = "HH6s2x"
_NUMBER = "HHI"
_BYTE = "HHB3x"
_HEADER = "=IHHII"

_ADDRESS = struct.Struct(_HEADER + _IFADDRMSG + _IPV4 * 2)
_NEIGHBOUR = struct.Struct(_HEADER + _NDMSG + _IPV4 + _MAC + _BYTE)
_CACHED_NEIGHBOUR = struct.Struct(_HEADER + _NDMSG + _IPV4)
_FDB_ENTRY = struct.Struct(_HEADER + _NDMSG + _MAC + _IPV4)
_BRIDGE_ENTRY = struct.Struct(_HEADER + _NDMSG + _MAC)
_ROUTE_VIA = struct.Struct(_HEADER + _RTMSG + _IPV4 + _NUMBER + _IPV4 + _NUMBER)
_ROUTE_DEV = struct.Struct(_HEADER + _RTMSG + _IPV4 + _NUMBER * 2)
_ROUTE_UNREACHABLE = struct.Struct(_HEADER + _RTMSG + _IPV4 + _NUMBER)


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
    packed = item.address.packed
    return _ADDRESS.pack(
        *(_ADDRESS.size, _RTM_DELADDR if verb is Verb.DELETE else _RTM_NEWADDR, verb.value, 0, 0),
        *(socket.AF_INET, item.address.network.prefixlen, 0, _RT_SCOPE_UNIVERSE, indexes[item.dev]),
        *(8, _IFA_LOCAL, packed),
        *(8, _IFA_ADDRESS, packed),
    )


def _neighbour(verb: Verb, item: Neighbour, indexes: Indexes) -> bytes:
    return _NEIGHBOUR.pack(
        *(_NEIGHBOUR.size, _RTM_DELNEIGH if verb is Verb.DELETE else _RTM_NEWNEIGH, verb.value, 0, 0),
        *(socket.AF_INET, 0, 0, indexes[item.dev], NUD_PERMANENT, 0, 0),
        *(8, _NDA_DST, item.address.packed),
        *(10, _NDA_LLADDR, _mac(item.mac)),
        *(5, _NDA_PROTOCOL, PROTOCOL),
    )


def _fdb_entry(verb: Verb, item: FdbEntry, indexes: Indexes) -> bytes:
    flags = verb.value
    if item.mac == FLOOD and verb is not Verb.DELETE:
        # The flood list is one entry with many destinations: each is appended, and one that is there stays.
        flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_APPEND
    return _FDB_ENTRY.pack(
        *(_FDB_ENTRY.size, _RTM_DELNEIGH if verb is Verb.DELETE else _RTM_NEWNEIGH, flags, 0, 0),
        *(socket.AF_BRIDGE, 0, 0, indexes[item.dev], NUD_PERMANENT, NTF_SELF | NTF_EXT_LEARNED, 0),
        *(10, _NDA_LLADDR, _mac(item.mac)),
        *(8, _NDA_DST, item.dst.packed),
    )


def _bridge_entry(verb: Verb, item: BridgeEntry, indexes: Indexes) -> bytes:
    return _BRIDGE_ENTRY.pack(
        *(_BRIDGE_ENTRY.size, _RTM_DELNEIGH if verb is Verb.DELETE else _RTM_NEWNEIGH, verb.value, 0, 0),
        *(socket.AF_BRIDGE, 0, 0, indexes[item.dev], NUD_NOARP, NTF_MASTER | NTF_EXT_LEARNED, 0),
        *(10, _NDA_LLADDR, _mac(item.mac)),
    )


def _route(verb: Verb, item: Route, indexes: Indexes) -> bytes:
    kind = _RTM_DELROUTE if verb is Verb.DELETE else _RTM_NEWROUTE
    length = item.dst.prefixlen
    dst = item.dst.network_address.packed
    if item.dev is None:
        return _ROUTE_UNREACHABLE.pack(
            *(_ROUTE_UNREACHABLE.size, kind, verb.value, 0, 0),
            *(socket.AF_INET, length, 0, 0, RT_TABLE_MAIN, PROTOCOL, _RT_SCOPE_UNIVERSE, RTN_UNREACHABLE, 0),
            *(8, _RTA_DST, dst),
            *(8, _RTA_PRIORITY, item.metric),
        )
    if item.via is None:
        return _ROUTE_DEV.pack(
            *(_ROUTE_DEV.size, kind, verb.value, 0, 0),
            *(socket.AF_INET, length, 0, 0, RT_TABLE_MAIN, PROTOCOL, _RT_SCOPE_LINK, RTN_UNICAST, 0),
            *(8, _RTA_DST, dst),
            *(8, _RTA_OIF, indexes[item.dev]),
            *(8, _RTA_PRIORITY, item.metric),
        )
    return _ROUTE_VIA.pack(
        *(_ROUTE_VIA.size, kind, verb.value, 0, 0),
        *(socket.AF_INET, length, 0, 0, RT_TABLE_MAIN, PROTOCOL, _RT_SCOPE_UNIVERSE, RTN_UNICAST, _RTNH_F_ONLINK),
        *(8, _RTA_DST, dst),
        *(8, _RTA_OIF, indexes[item.dev]),
        *(8, _RTA_GATEWAY, item.via.packed),
        *(8, _RTA_PRIORITY, item.metric),
    )


_Encoder = Callable[[Verb, Item, Indexes], bytes]
_ENCODERS: dict[type[Item], _Encoder] = {
    Address: cast("_Encoder", _address),
    Neighbour: cast("_Encoder", _neighbour),
    FdbEntry: cast("_Encoder", _fdb_entry),
    BridgeEntry: cast("_Encoder", _bridge_entry),
    Route: cast("_Encoder", _route),
}


def neighbour_request(item: Neighbour, indexes: Indexes) -> bytes:
    """Return the request for one neighbour, whatever its state."""
    return _CACHED_NEIGHBOUR.pack(
        *(_CACHED_NEIGHBOUR.size, _RTM_GETNEIGH, NLM_F_REQUEST, 0, 0),
        *(socket.AF_INET, 0, 0, indexes[item.dev], 0, 0, 0),
        *(8, _NDA_DST, item.address.packed),
    )


def _table_request(kind: int, body: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + body


ADDRESSES = _table_request(_RTM_GETADDR, struct.pack("=" + _IFADDRMSG, socket.AF_INET, 0, 0, 0, 0))
NEIGHBOURS = _table_request(_RTM_GETNEIGH, struct.pack("=" + _NDMSG, socket.AF_INET, 0, 0, 0, 0, 0, 0))
FDB_ENTRIES = _table_request(_RTM_GETNEIGH, struct.pack("=" + _NDMSG, socket.AF_BRIDGE, 0, 0, 0, 0, 0, 0))
ROUTES = _table_request(
    # NETLINK_GET_STRICT_CHK makes the kernel filter by table and protocol.
    _RTM_GETROUTE,
    struct.pack("=" + _RTMSG, socket.AF_INET, 0, 0, 0, RT_TABLE_MAIN, PROTOCOL, 0, 0, 0),
)
