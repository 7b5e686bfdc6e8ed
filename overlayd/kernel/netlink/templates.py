"""Messages for many entries at once: one of each kind is encoded, and cut where the others differ from it.

Joining the pieces takes a third of the time of packing each message, and there are three for each remote host.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import cast

from overlayd.dataplane.items import FLOOD, FdbEntry, Item, Link, Neighbour, Route
from overlayd.kernel.netlink import encode, encode_link
from overlayd.kernel.netlink.encode import Indexes, Verb
from overlayd.kernel.netlink.transport import HEADER

_BEFORE_NEIGHBOUR = HEADER.size + 12
"""Bytes before the attributes: struct nlmsghdr and struct ndmsg (linux/neighbour.h)."""

_BEFORE_ROUTE = HEADER.size + 12
"""As long with struct rtmsg (linux/rtnetlink.h)."""

_ATTRIBUTE, _MAC, _PADDED_MAC = 4, 6, 8


def entries(pairs: Iterable[tuple[Verb, Item]], indexes: Indexes) -> list[bytes]:
    """Return the message for each item; raises `KernelError` (ENODEV) when one of the devices is missing."""
    found: list[bytes] = []
    for (verb, kind), run in groupby(pairs, lambda pair: (pair[0], type(pair[1]))):
        items = [item for _, item in run]
        many = _MANY.get(kind)
        found += many(verb, items, indexes) if many else [encode.entry(verb, item, indexes) for item in items]
    return found


def _neighbours(verb: Verb, items: Sequence[Neighbour], indexes: Indexes) -> list[bytes]:
    cuts: dict[object, tuple[bytes, bytes, bytes]] = {}
    found = []
    for item in items:
        address = item.address
        key = (item.dev, address.version)
        if key not in cuts:
            cuts[key] = _cut_neighbour(encode.entry(verb, item, indexes), len(address.packed))
        head, middle, tail = cuts[key]
        found.append(b"".join((head, address.packed, middle, bytes.fromhex(item.mac.replace(":", "")), tail)))
    return found


def _cut_neighbour(message: bytes, width: int) -> tuple[bytes, bytes, bytes]:
    address = _BEFORE_NEIGHBOUR + _ATTRIBUTE
    mac = address + width + _ATTRIBUTE
    return message[:address], message[address + width : mac], message[mac + _MAC :]


def _fdb_entries(verb: Verb, items: Sequence[FdbEntry], indexes: Indexes) -> list[bytes]:
    cuts: dict[object, tuple[bytes, bytes]] = {}
    found = []
    for item in items:
        dst = item.dst
        # An entry of the flood list has flags of its own.
        key = (item.dev, dst.version, item.mac == FLOOD)
        if key not in cuts:
            cuts[key] = _cut_fdb_entry(encode.entry(verb, item, indexes))
        head, middle = cuts[key]
        found.append(b"".join((head, bytes.fromhex(item.mac.replace(":", "")), middle, dst.packed)))
    return found


def _cut_fdb_entry(message: bytes) -> tuple[bytes, bytes]:
    mac = _BEFORE_NEIGHBOUR + _ATTRIBUTE
    address = mac + _PADDED_MAC + _ATTRIBUTE
    return message[:mac], message[mac + _MAC : address]


def _routes(verb: Verb, items: Sequence[Route], indexes: Indexes) -> list[bytes]:
    cuts: dict[object, tuple[bytes, bytes, bytes]] = {}
    found = []
    for item in items:
        dst, via = item.dst, item.via
        if via is None:
            found.append(encode.entry(verb, item, indexes))
            continue
        key = (item.dev, dst.prefixlen, dst.version, via.version)
        if key not in cuts:
            cuts[key] = _cut_route(encode.entry(verb, item, indexes), len(dst.network_address.packed), len(via.packed))
        head, middle, tail = cuts[key]
        metric = item.metric.to_bytes(4, sys.byteorder)
        found.append(b"".join((head, dst.network_address.packed, middle, via.packed, tail, metric)))
    return found


def _cut_route(message: bytes, width: int, via_width: int) -> tuple[bytes, bytes, bytes]:
    dst = _BEFORE_ROUTE + _ATTRIBUTE
    via = dst + width + 2 * _ATTRIBUTE + _ATTRIBUTE
    return message[:dst], message[dst + width : via], message[via + via_width : -4]


def _links(_: Verb, items: Sequence[Link], __: Indexes) -> list[bytes]:
    """Return the messages for links that are there, and only need to be set up."""
    return [encode_link.changed(link.name, mtu=link.mtu, alias=link.alias or None, up=link.up) for link in items]


_Many = Callable[[Verb, Sequence[Item], Indexes], list[bytes]]
_MANY: dict[type[Item], _Many] = {
    Link: cast("_Many", _links),
    Neighbour: cast("_Many", _neighbours),
    FdbEntry: cast("_Many", _fdb_entries),
    Route: cast("_Many", _routes),
}
