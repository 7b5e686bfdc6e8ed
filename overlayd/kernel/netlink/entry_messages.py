"""From items to rtnetlink messages with sequence number 0: addresses, neighbours, FDB entries and routes.

pyroute2 encodes one message of each shape, which is cut into a template and kept. Those of many entries are made by
entry_runs.py, of the same templates.
"""

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from itertools import groupby
from typing import cast

from overlayd.dataplane import ownership
from overlayd.dataplane.items import FLOOD, Address, BridgeEntry, FdbEntry, Item, Link, Neighbour, RateLimit, Route
from overlayd.dataplane.ownership import PROTOCOL
from overlayd.kernel.netlink import link_messages, traffic_control
from overlayd.kernel.netlink.encoder import Structure, encoded
from overlayd.kernel.netlink.framing import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, packed_number
from overlayd.kernel.netlink.rtnetlink import (
    FAMILIES,
    IFA_F_NODAD,
    NTF_EXT_LEARNED,
    NTF_MASTER,
    NTF_SELF,
    NUD_NOARP,
    NUD_PERMANENT,
    RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE,
    RT_TABLE_MAIN,
    RTM_DELADDR,
    RTM_DELNEIGH,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    RTN_UNICAST,
    RTN_UNREACHABLE,
    RTNH_F_ONLINK,
)
from overlayd.kernel.netlink.template import Template, TemplateFields
from overlayd.model.ids import InterfaceName, packed_mac

Indexes = Mapping[InterfaceName, int]
"""Interface indexes of one namespace."""

_SHAPES_KEPT = 1024
"""Templates of one kind that are kept. Prefix lengths make 161 shapes of addresses and routes, in three verbs each."""


class Verb(Enum):
    """What to do with an entry. The value holds the flags of the message."""

    ADD = NLM_F_CREATE | NLM_F_EXCL
    REPLACE = NLM_F_CREATE | NLM_F_REPLACE
    DELETE = 0


class Hop(Enum):
    """The kind of a route's destination: a next hop, the link itself, or unreachable."""

    VIA = "via"
    LINK = "link"
    NONE = "none"


def entries(pairs: Iterable[tuple[Verb, Item]], indexes: Indexes) -> list[bytes]:
    """Return the message for each item; raises `KernelError` (ENODEV) when one of the devices is missing."""
    found: list[bytes] = []
    for (verb, kind), run in groupby(pairs, lambda pair: (pair[0], type(pair[1]))):
        found += _ENCODERS[kind](verb, [item for _, item in run], indexes)
    return found


def entry(verb: Verb, item: Item, indexes: Indexes) -> bytes:
    """Return the message for one item; raises `KernelError` (ENODEV) when its device is missing."""
    (found,) = _ENCODERS[type(item)](verb, [item], indexes)
    return found


def _addresses(verb: Verb, items: Sequence[Address], indexes: Indexes) -> list[bytes]:
    return [_address(verb, item, indexes) for item in items]


def _address(verb: Verb, item: Address, indexes: Indexes) -> bytes:
    # What an uplink's end is called by the other end is no source address for anything beyond.
    beside = item.address.ip.is_link_local and item.dev not in {ownership.LOOPBACK, ownership.BRIDGE}
    scope = RT_SCOPE_LINK if beside else RT_SCOPE_UNIVERSE
    packed = item.address.packed
    found = _address_shape(verb, item.address.version, item.address.network.prefixlen, scope)
    return found.fill(packed_number(indexes[item.dev]), packed, packed)


@lru_cache(_SHAPES_KEPT)
def _address_shape(verb: Verb, version: int, length: int, scope: int) -> Template:
    """Return the template of an address: its fields are the device's index and twice the address."""
    field = TemplateFields()
    head = {
        "family": FAMILIES[version],
        "prefixlen": length,
        # Duplicate address detection would keep an IPv6 address from being used for a second or more.
        "flags": IFA_F_NODAD if FAMILIES[version] == socket.AF_INET6 else 0,
        "scope": scope,
        "index": field.number(),
    }
    attributes = (("IFA_LOCAL", field.address(version)), ("IFA_ADDRESS", field.address(version)))
    kind = RTM_DELADDR if verb is Verb.DELETE else RTM_NEWADDR
    return field.template(encoded(Structure.ADDRESS, kind, verb.value, head, attributes))


def _neighbours(verb: Verb, items: Sequence[Neighbour], indexes: Indexes) -> list[bytes]:
    return [
        neighbour_shape(verb, item.address.version).fill(
            packed_number(indexes[item.dev]), item.address.packed, packed_mac(item.mac)
        )
        for item in items
    ]


@lru_cache(_SHAPES_KEPT)
def neighbour_shape(verb: Verb, version: int) -> Template:
    """Return the template of a neighbour: its fields are the device's index, the address and the MAC."""
    field = TemplateFields()
    head = {"family": FAMILIES[version], "ifindex": field.number(), "state": NUD_PERMANENT}
    attributes = (
        ("NDA_DST", field.address(version)),
        ("NDA_LLADDR", field.mac()),
        ("NDA_PROTOCOL", PROTOCOL),
    )
    return field.template(encoded(Structure.NEIGHBOUR, _neighbour_kind(verb), verb.value, head, attributes))


def _fdb_entries(verb: Verb, items: Sequence[FdbEntry], indexes: Indexes) -> list[bytes]:
    return [
        fdb_shape(verb, item.dst.version, is_flood=item.mac == FLOOD).fill(
            packed_number(indexes[item.dev]), packed_mac(item.mac), item.dst.packed
        )
        for item in items
    ]


@lru_cache(_SHAPES_KEPT)
def fdb_shape(verb: Verb, version: int, *, is_flood: bool) -> Template:
    """Return the template of an entry of a VXLAN device: its fields are the device's index, the MAC and the VTEP.

    The flood list is one entry with many destinations: each is appended, and one that is there stays.
    """
    field = TemplateFields()
    head = {
        "family": socket.AF_BRIDGE,
        "ifindex": field.number(),
        "state": NUD_PERMANENT,
        "flags": NTF_SELF | NTF_EXT_LEARNED,
    }
    attributes = (("NDA_LLADDR", field.mac()), ("NDA_DST", field.address(version)))
    flags = NLM_F_CREATE | NLM_F_APPEND if is_flood and verb is not Verb.DELETE else verb.value
    return field.template(encoded(Structure.NEIGHBOUR, _neighbour_kind(verb), flags, head, attributes))


def _bridge_entries(verb: Verb, items: Sequence[BridgeEntry], indexes: Indexes) -> list[bytes]:
    return [
        _bridge_shape(verb, to_itself=item.dev == item.bridge).fill(
            packed_number(indexes[item.dev]), packed_mac(item.mac)
        )
        for item in items
    ]


@lru_cache(_SHAPES_KEPT)
def _bridge_shape(verb: Verb, *, to_itself: bool) -> Template:
    """Return the template of an entry of a bridge: its fields are the port's index and the MAC.

    One that leads to the bridge itself is put at the bridge, and the kernel takes it as permanent only
    (net/bridge/br_fdb.c: __br_fdb_add).
    """
    state, at = (NUD_PERMANENT, NTF_SELF) if to_itself else (NUD_NOARP, NTF_MASTER)
    field = TemplateFields()
    head = {
        "family": socket.AF_BRIDGE,
        "ifindex": field.number(),
        "state": state,
        "flags": at | NTF_EXT_LEARNED,
    }
    attributes = (("NDA_LLADDR", field.mac()),)
    return field.template(encoded(Structure.NEIGHBOUR, _neighbour_kind(verb), verb.value, head, attributes))


def _neighbour_kind(verb: Verb) -> int:
    return RTM_DELNEIGH if verb is Verb.DELETE else RTM_NEWNEIGH


def _routes(verb: Verb, items: Sequence[Route], indexes: Indexes) -> list[bytes]:
    return [_route(verb, item, indexes) for item in items]


def _route(verb: Verb, item: Route, indexes: Indexes) -> bytes:
    dst, metric = item.dst, packed_number(item.metric)
    packed = dst.network_address.packed
    if item.dev is None:
        return route_shape(verb, dst.version, dst.prefixlen, Hop.NONE).fill(packed, metric)
    index = packed_number(indexes[item.dev])
    if item.via is None:
        return route_shape(verb, dst.version, dst.prefixlen, Hop.LINK).fill(packed, index, metric)
    return route_shape(verb, dst.version, dst.prefixlen, Hop.VIA).fill(packed, index, item.via.packed, metric)


@lru_cache(_SHAPES_KEPT)
def route_shape(verb: Verb, version: int, length: int, hop: Hop) -> Template:
    """Return the template of a route: its fields are destination, index of the device, next hop, and metric.

    The hop says which of them it has. An IPv4 next hop is taken to be on the link by a flag; those of IPv6 are
    link-local, and so are on it anyway.
    """
    field = TemplateFields()
    family = FAMILIES[version]
    head = {
        "family": family,
        "dst_len": length,
        "table": RT_TABLE_MAIN,
        "proto": PROTOCOL,
        "scope": RT_SCOPE_LINK if hop is Hop.LINK else RT_SCOPE_UNIVERSE,
        "type": RTN_UNREACHABLE if hop is Hop.NONE else RTN_UNICAST,
        "flags": RTNH_F_ONLINK if hop is Hop.VIA and family == socket.AF_INET else 0,
    }
    attributes: list[tuple[str, object]] = [("RTA_DST", field.address(version))]
    if hop is not Hop.NONE:
        attributes.append(("RTA_OIF", field.number()))
    if hop is Hop.VIA:
        attributes.append(("RTA_GATEWAY", field.address(version)))
    attributes.append(("RTA_PRIORITY", field.number()))
    kind = RTM_DELROUTE if verb is Verb.DELETE else RTM_NEWROUTE
    return field.template(encoded(Structure.ROUTE, kind, verb.value, head, attributes))


def _rate_limits(verb: Verb, items: Sequence[RateLimit], indexes: Indexes) -> list[bytes]:
    if verb is Verb.DELETE:
        return [traffic_control.limit_deleted(indexes[item.dev]) for item in items]
    return [traffic_control.limit_put(item, indexes[item.dev], verb.value) for item in items]


def _links(_: Verb, items: Sequence[Link], __: Indexes) -> list[bytes]:
    """Return the messages for existing links that only need to be set up."""
    return [link_messages.changed(link.name, mtu=link.mtu, alias=link.alias or None, up=link.up) for link in items]


_Encoder = Callable[[Verb, Sequence[Item], Indexes], list[bytes]]
_ENCODERS: dict[type[Item], _Encoder] = {
    Link: cast("_Encoder", _links),
    Address: cast("_Encoder", _addresses),
    Neighbour: cast("_Encoder", _neighbours),
    FdbEntry: cast("_Encoder", _fdb_entries),
    BridgeEntry: cast("_Encoder", _bridge_entries),
    Route: cast("_Encoder", _routes),
    RateLimit: cast("_Encoder", _rate_limits),
}
KINDS = frozenset(_ENCODERS)
"""What kinds of item are sent in batches. The others have executors of their own (apply/executor.py)."""
