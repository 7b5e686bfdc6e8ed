"""The large tables of a namespace as they were last read: unchanged messages of a dump are not decoded again.

Almost all of it is the same each time. Raw messages are compared, but for the times that the kernel puts into those
about neighbours and forwarding entries (NDA_CACHEINFO, linux/neighbour.h), and items are made of new ones only.
"""

import errno
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from overlayd.dataplane.items import Item, NamespaceRef, State
from overlayd.kernel.netlink.decoding.values import Names
from overlayd.kernel.netlink.framing import ATTRIBUTE, aligned
from overlayd.kernel.netlink.rtnetlink import NDA_CACHEINFO, NDMSG
from overlayd.kernel.port import KernelError

Decoder = Callable[[NamespaceRef, bytes, Names], Item | None]
"""Makes an item of a message, or nothing when it is about what is not ours."""

_BODY = NDMSG.size
"""Bytes; struct rtmsg is as long."""

_TIMES = ATTRIBUTE.pack(20, NDA_CACHEINFO)
"""How NDA_CACHEINFO begins: its length, with four numbers in it, and its type."""


T = TypeVar("T")


class Decoded(Generic[T]):
    """What was made of each message of a small table as it was last read."""

    def __init__(self, decoder: Callable[[bytes], T]) -> None:
        self._decoder = decoder
        self._known: Mapping[bytes, T] = {}

    def of(self, payloads: Iterable[bytes]) -> list[T]:
        """Return the decoded value of each message of the table; raise what the decoder raises."""
        known, decoder = self._known, self._decoder
        self._known = {payload: known[payload] if payload in known else decoder(payload) for payload in payloads}
        return list(self._known.values())


class Readings:
    """The tables of one namespace."""

    def __init__(self, ns: NamespaceRef) -> None:
        self._ns = ns
        self._names: Names = {}
        self._tables: dict[Decoder, _Table] = {}

    def items(self, decoder: Decoder, payloads: Iterable[bytes], names: Names) -> State:
        """Return our items in a table that was just read, on the devices with these names."""
        if names != self._names:
            self._names = dict(names)
            self._tables.clear()
        table = self._tables.setdefault(decoder, _Table())
        table.read(payloads, lambda payload: decoder(self._ns, payload, self._names))
        return table.state


class _Table:
    def __init__(self) -> None:
        self.state: State = frozenset()
        self._known: Mapping[bytes, Item | None] = {}
        self._places: dict[int, int] = {}

    def read(self, payloads: Iterable[bytes], decoder: Callable[[bytes], Item | None]) -> None:
        now = {self._without_times(payload): payload for payload in payloads}
        known = self._known
        if now.keys() == known.keys():
            return
        self._known = {key: known[key] if key in known else decoder(payload) for key, payload in now.items()}
        self.state = frozenset(filter(None, self._known.values()))

    def _without_times(self, payload: bytes) -> bytes:
        """Return a message without the attribute that says when an entry was last used.

        Messages of one length usually have it at one place; for others the place is looked up. The bytes before it
        determine the place, so that two different messages are never taken for equal.
        """
        place = self._places.get(len(payload))
        if place is None or (place < len(payload) and payload[place : place + 4] != _TIMES):
            place = self._places[len(payload)] = _place_of_times(payload)
        return payload[:place] + payload[place + 20 :]


def _place_of_times(payload: bytes) -> int:
    """Return where the times are, or the end of a message without them."""
    place = _BODY
    while place < len(payload) and payload[place : place + 4] != _TIMES:
        (length, _) = ATTRIBUTE.unpack_from(payload, place)
        if length < ATTRIBUTE.size:
            raise KernelError(errno.EBADMSG, f"a netlink attribute of {length} bytes")
        place += aligned(length)
    return min(place, len(payload))
