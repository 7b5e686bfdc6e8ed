"""Requests to rtnetlink: for whole tables, and for one object.

They are packed here and not by pyroute2, because an agent that only observes the kernel does not load pyroute2.
"""

import socket

from overlayd.dataplane.ownership import PROTOCOL
from overlayd.kernel.netlink.framing import NLM_F_DUMP, attribute, message, packed_number, packed_text
from overlayd.kernel.netlink.rtnetlink import (
    FAMILIES,
    IFADDRMSG,
    IFINFOMSG,
    IFLA_EXT_MASK,
    IFLA_IFNAME,
    NDA_DST,
    NDMSG,
    NETNSA_FD,
    RT_TABLE_MAIN,
    RT_TABLE_UNSPEC,
    RTA_DST,
    RTEXT_FILTER_SKIP_STATS,
    RTGENMSG,
    RTM_F_FIB_MATCH,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETNEIGH,
    RTM_GETNSID,
    RTM_GETQDISC,
    RTM_GETROUTE,
    RTM_GETTFILTER,
    RTMSG,
    TCMSG,
)
from overlayd.model.address import IpAddress
from overlayd.model.ids import InterfaceName

_WITHOUT_STATISTICS = attribute(IFLA_EXT_MASK, packed_number(RTEXT_FILTER_SKIP_STATS))


def _neighbours(family: int) -> bytes:
    return message(RTM_GETNEIGH, NLM_F_DUMP, NDMSG.pack(family, 0, 0, 0, 0, 0, 0))


def _routes(family: int, table: int, protocol: int) -> bytes:
    # NETLINK_GET_STRICT_CHK makes the kernel filter by table and protocol.
    return message(RTM_GETROUTE, NLM_F_DUMP, RTMSG.pack(family, 0, 0, 0, table, protocol, 0, 0, 0))


LINKS = message(RTM_GETLINK, NLM_F_DUMP, bytes(IFINFOMSG.size) + _WITHOUT_STATISTICS)
ADDRESSES = tuple(message(RTM_GETADDR, NLM_F_DUMP, IFADDRMSG.pack(family, 0, 0, 0, 0)) for family in FAMILIES.values())
"""One request for each family, as for neighbours and routes: the kernel keeps them in different tables."""

NEIGHBOURS = tuple(
    message(RTM_GETNEIGH, NLM_F_DUMP, NDMSG.pack(family, 0, 0, 0, 0, 0, 0)) for family in FAMILIES.values()
)
FDB_ENTRIES = message(RTM_GETNEIGH, NLM_F_DUMP, NDMSG.pack(socket.AF_BRIDGE, 0, 0, 0, 0, 0, 0))
ROUTES = tuple(_routes(family, RT_TABLE_MAIN, PROTOCOL) for family in FAMILIES.values())
ROUTES_OF_ALL_TABLES = tuple(_routes(family, RT_TABLE_UNSPEC, PROTOCOL) for family in FAMILIES.values())
"""Those of our protocol, wherever another program has moved them."""

ALL_ROUTES = tuple(_routes(family, RT_TABLE_UNSPEC, 0) for family in FAMILIES.values())
"""Those of every table and protocol, ours among them."""

QDISCS = message(RTM_GETQDISC, NLM_F_DUMP, bytes(TCMSG.size))


def link(name: InterfaceName) -> bytes:
    """Return the request for one link."""
    return message(
        RTM_GETLINK, 0, bytes(IFINFOMSG.size) + attribute(IFLA_IFNAME, packed_text(name)) + _WITHOUT_STATISTICS
    )


def link_by_index(index: int) -> bytes:
    """Return the request for one link by its index."""
    return message(RTM_GETLINK, 0, IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, index, 0, 0) + _WITHOUT_STATISTICS)


def namespace_number(fd: int) -> bytes:
    """Return the request for the number by which a socket's namespace knows another one."""
    return message(RTM_GETNSID, 0, RTGENMSG.pack(socket.AF_UNSPEC) + attribute(NETNSA_FD, packed_number(fd)))


def neighbour(address: IpAddress, index: int) -> bytes:
    """Return the request for one neighbour of the device with this index, whatever its state."""
    body = NDMSG.pack(FAMILIES[address.version], 0, 0, index, 0, 0, 0)
    return message(RTM_GETNEIGH, 0, body + attribute(NDA_DST, address.packed))


def route(address: IpAddress) -> bytes:
    """Return the request for the route that packets to an address take (RTM_F_FIB_MATCH: as it was configured)."""
    body = RTMSG.pack(FAMILIES[address.version], address.max_prefixlen, 0, 0, 0, 0, 0, 0, RTM_F_FIB_MATCH)
    return message(RTM_GETROUTE, 0, body + attribute(RTA_DST, address.packed))


def traffic_filter(index: int, handle: int, parent: int, info: int) -> bytes:
    """Return the request for one filter of the device with this index."""
    return message(RTM_GETTFILTER, 0, TCMSG.pack(socket.AF_UNSPEC, 0, 0, index, handle, parent, info))
