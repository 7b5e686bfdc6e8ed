"""From messages about routes to routes, ours and foreign (linux/rtnetlink.h)."""

import socket
from collections.abc import Iterator, Mapping

from overlayd.dataplane import ownership
from overlayd.dataplane.items import NamespaceRef, Route
from overlayd.kernel.netlink.decoding.values import Names, parsed_address, parsed_network, parsed_number
from overlayd.kernel.netlink.framing import aligned, attributes
from overlayd.kernel.netlink.rtnetlink import (
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
    RTMSG,
    RTN_UNICAST,
    RTN_UNREACHABLE,
    RTNEXTHOP,
)
from overlayd.model.address import IpAddress, IpNetwork

_ANY = {socket.AF_INET: bytes(4), socket.AF_INET6: bytes(16)}
"""The destination of a default route, which has no RTA_DST."""


def is_foreign_route(payload: bytes) -> bool:
    """Return whether a route does not bear our mark, and is not the kernel's own route to an address of this host."""
    _, _, _, _, table, protocol, *_ = RTMSG.unpack_from(payload)
    return bool(protocol != ownership.PROTOCOL and table != RT_TABLE_LOCAL)


def route_device(payload: bytes) -> int:
    """Return the index of the device of a route, 0 for one that has none, or several."""
    return parsed_number(attributes(payload, RTMSG.size).get(RTA_OIF))


def destination(payload: bytes) -> IpNetwork | None:
    """Return the destination of a route of the main table, None for default routes and those that every device has."""
    family, length, _, _, table, *_ = RTMSG.unpack_from(payload)
    if table != RT_TABLE_MAIN or not length:
        return None
    dst = parsed_network(attributes(payload, RTMSG.size).get(RTA_DST, _ANY[family]), length)
    return None if dst.is_link_local or dst.is_multicast else dst


def default_devices(payload: bytes) -> Iterator[int]:
    """Yield the indexes of the devices of a route, when it is a default route of the main table."""
    _, length, _, _, table, *_ = RTMSG.unpack_from(payload)
    if table == RT_TABLE_MAIN and not length:
        yield from route_devices(payload)


def route_devices(payload: bytes) -> Iterator[int]:
    """Yield the indexes of the devices of a route, which may have several."""
    found = attributes(payload, RTMSG.size)
    if index := parsed_number(found.get(RTA_OIF)):
        yield index
    yield from (index for index, _ in _ways(found))


def route_mtu(payload: bytes) -> int | None:
    """Return the MTU that a route was given, in bytes; None when it is that of its device."""
    metrics = attributes(attributes(payload, RTMSG.size).get(RTA_METRICS, b""))
    return parsed_number(metrics.get(RTAX_MTU)) or None


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
        yield parsed_address(found[RTA_GATEWAY])
    if RTA_VIA in found:  # a gateway of the other family: struct rtvia, the address behind two bytes
        yield parsed_address(found[RTA_VIA][2:])


def route(ns: NamespaceRef, payload: bytes, names: Names) -> Route | None:
    """Return the route if it has our protocol; the kernel has filtered most others already."""
    family, length, _, tos, _, protocol, _, kind, _ = RTMSG.unpack_from(payload)
    if protocol != ownership.PROTOCOL or tos:
        return None
    found = attributes(payload, RTMSG.size)
    dst = parsed_network(found.get(RTA_DST, _ANY[family]), length)
    metric = parsed_number(found.get(RTA_PRIORITY))
    dev = names.get(parsed_number(found.get(RTA_OIF)))
    if kind == RTN_UNREACHABLE:
        return Route(ns, dst, None, None, metric)
    if kind != RTN_UNICAST or dev is None:
        return None
    gateway = found.get(RTA_GATEWAY)
    return Route(ns, dst, dev, parsed_address(gateway) if gateway else None, metric)
