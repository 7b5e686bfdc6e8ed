"""From many entries to runs of messages, each made column by column: an address, a MAC, a number of all of them.

A template is repeated as often as there are entries, and each of its fields filled in all copies at once. That costs a
tenth of making a message for each entry, of which a network has three for each remote host.
"""

import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import cast

from overlayd.dataplane.items import FLOOD, FdbEntry, Item, Neighbour, Route
from overlayd.kernel.netlink import entry_messages
from overlayd.kernel.netlink.entry_messages import Hop, Indexes, Verb
from overlayd.kernel.netlink.framing import MessageRun, packed_number
from overlayd.model.address import IpAddress

_IPV4 = 4


def runs(verbs: Sequence[Verb], items: Sequence[Item], indexes: Indexes) -> Iterator[MessageRun]:
    """Yield the messages for items, each with its verb; raise `KernelError` (ENODEV) when a device is missing."""
    for part in _alike(verbs, list(map(type, items))):
        verb, kind = verbs[part.start], type(items[part.start])
        if maker := _MAKERS.get(kind):
            yield from maker(verb, items[part], indexes)
        else:
            yield from (MessageRun(entry_messages.entry(verb, item, indexes), 1) for item in items[part])


def _neighbours(verb: Verb, items: Sequence[Neighbour], indexes: Indexes) -> Iterator[MessageRun]:
    addresses = [item.address for item in items]
    for part in _alike([item.dev for item in items], list(map(type, addresses))):
        template = entry_messages.neighbour_shape(verb, addresses[part.start].version)
        index = packed_number(indexes[items[part.start].dev])
        yield template.repeated(_length(part), index, _addresses(addresses[part]), _macs(items[part]))


def _fdb_entries(verb: Verb, items: Sequence[FdbEntry], indexes: Indexes) -> Iterator[MessageRun]:
    ends = [item.dst for item in items]
    are_flood = [item.mac == FLOOD for item in items]
    for part in _alike([item.dev for item in items], list(map(type, ends)), are_flood):
        template = entry_messages.fdb_shape(verb, ends[part.start].version, is_flood=are_flood[part.start])
        index = packed_number(indexes[items[part.start].dev])
        yield template.repeated(_length(part), index, _macs(items[part]), _addresses(ends[part]))


def _routes(verb: Verb, items: Sequence[Route], indexes: Indexes) -> Iterator[MessageRun]:
    destinations = [item.dst for item in items]
    hops = [item.via for item in items]
    lengths = [destination.prefixlen for destination in destinations]
    for part in _alike([item.dev for item in items], list(map(type, hops)), lengths):
        first = items[part.start]
        if first.via is None or first.dev is None:
            yield from (MessageRun(entry_messages.entry(verb, item, indexes), 1) for item in items[part])
            continue
        template = entry_messages.route_shape(verb, first.via.version, first.dst.prefixlen, Hop.VIA)
        yield template.repeated(
            _length(part),
            _addresses([destination.network_address for destination in destinations[part]]),
            packed_number(indexes[first.dev]),
            _addresses([hop for hop in hops[part] if hop]),
            array("I", [item.metric for item in items[part]]).tobytes(),
        )


def _alike(*columns: Sequence[object]) -> Iterator[slice]:
    """Yield the runs of rows that are the same in each column."""
    start = 0
    for _, run in groupby(zip(*columns, strict=True)):
        end = start + len(list(run))
        yield slice(start, end)
        start = end


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _addresses(addresses: Sequence[IpAddress]) -> bytes:
    """Return addresses of one family in network byte order, one behind the other."""
    if addresses[0].version != _IPV4:
        return b"".join([address.packed for address in addresses])
    numbers = array("I", map(int, addresses))
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()


def _macs(items: Sequence[Neighbour] | Sequence[FdbEntry]) -> bytes:
    return bytes.fromhex("".join([item.mac for item in items]).replace(":", ""))


_Maker = Callable[[Verb, Sequence[Item], Indexes], Iterator[MessageRun]]
_MAKERS: dict[type[Item], _Maker] = {
    Neighbour: cast("_Maker", _neighbours),
    FdbEntry: cast("_Maker", _fdb_entries),
    Route: cast("_Maker", _routes),
}
"""The kinds of which a network has one for each remote host. The messages of all others are made one by one."""
