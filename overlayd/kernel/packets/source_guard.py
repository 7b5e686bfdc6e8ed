"""A classic BPF program at the host's end of a veth pair that drops what a container must not send on a segment.

Offsets are those of an Ethernet frame without its VLAN tag, which the kernel removes before. A load behind the end of a
frame would end the program with 0, which lets the frame pass: every load but those of the Ethernet header follows a
check of the length.
"""

import functools
import hashlib
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address

from overlayd.dataplane.items import NamespaceRef, SourceGuard
from overlayd.kernel.packets.classic_bpf import (
    ADD,
    ADD_INDEX,
    AND,
    INDEX_IPV4_HEADER,
    INDEX_LOADED,
    INDEX_NUMBER,
    INDEXED_LOADS,
    INSTRUCTION,
    JUMP,
    JUMP_IF_AT_LEAST,
    JUMP_IF_AT_LEAST_INDEX,
    JUMP_IF_EQUAL,
    KEEP,
    LOAD_KEPT,
    LOAD_LENGTH,
    LOAD_NUMBER,
    LOADS,
    RETURN,
    SHIFT_LEFT,
    SUBTRACT_INDEX,
    Line,
    Step,
    assembled,
    to,
    unless,
    when,
    when_words,
)
from overlayd.model.address import IpAddress
from overlayd.model.ids import InterfaceName, MacAddress, packed_mac

_TC_ACT_OK, _TC_ACT_SHOT = 0, 2

_VLAN_TAG_PRESENT = (-0x1000 + 48) % (1 << 32)
"""SKF_AD_OFF and SKF_AD_VLAN_TAG_PRESENT."""

_IPV4, _ARP, _IPV6 = 0x0800, 0x0806, 0x86DD
_MAC, _KIND = 6, 12
_IPV4_HEADER, _IPV4_FRAGMENT, _IPV4_PROTOCOL, _IPV4_SOURCE, _IPV4_END = 14, 14 + 6, 14 + 9, 14 + 12, 14 + 20
_FRAGMENT_OFFSET = 0x1FFF
_ARP_TYPES, _ARP_LENGTHS, _ARP_MAC, _ARP_ADDRESS, _ARP_END = 14, 14 + 4, 14 + 8, 14 + 14, 14 + 28
_ARP_OF_ETHERNET_AND_IPV4 = 0x00010800
_SIX_AND_FOUR = 0x0604
_IPV6_NEXT_HEADER, _IPV6_SOURCE, _IPV6_END = 14 + 6, 14 + 8, 14 + 40

_TCP, _UDP, _ICMPV6 = 6, 17, 58
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION_OPTIONS = 0, 43, 44, 60
_UNREADABLE = (_ROUTING, 51, 135, 139, 140, 253, 254)
"""Extension headers (RFC 7045 section 4) that are not read over: also AH, mobility, HIP, shim6, and experiments."""

_EXTENSION_HEADERS_MAX = 4
_EXTENSION_UNIT = 8
_FRAGMENT_OFFSET6 = 0xFFF8
_SOLICITATION, _ADVERTISEMENT = 135, 136
_OF_ROUTERS = (134, 137, 138)
"""ICMPv6 types: router advertisement, redirect, router renumbering."""

_FROM_NO_ADDRESS = (131, 132, 133, 143)
"""ICMPv6 types that may come from `::`: multicast listeners (RFC 3590) and router solicitation (RFC 4861)."""

_TARGET, _TARGET_END = 14 + 40 + 8, 14 + 40 + 24
"""Where a neighbour message has its target, without extension headers."""

_DHCP_SERVER, _DHCPV6_SERVER = 67, 547
_NEXT, _FRAGMENTED, _UNSPECIFIED = range(3)
"""Where the program keeps the type of the next header, whether it is a fragment's, and whether the source is `::`."""


_NUMBER = struct.Struct("=I")

_PASS, _DROP = Step(RETURN, _TC_ACT_OK), Step(RETURN, _TC_ACT_SHOT)


def code(item: SourceGuard) -> bytes:
    """Return the program as the kernel takes it.

    To assemble it takes half a millisecond. So one of each shape is, and its numbers are replaced by those of others.
    """
    return _filled(item.mac, item.addresses, item.ethertypes)


def _filled(mac: MacAddress, addresses: Collection[IpAddress], ethertypes: frozenset[int]) -> bytes:
    families = [address.version for address in addresses]
    first, places = _shape(families.count(4), families.count(6), ethertypes)
    found, numbers = bytearray(first), _numbers(mac, addresses)
    for offset, number in places:
        _NUMBER.pack_into(found, offset, numbers[number])
    return bytes(found)


@functools.lru_cache(maxsize=64)
def _shape(count4: int, count6: int, ethertypes: frozenset[int]) -> tuple[bytes, Sequence[tuple[int, int]]]:
    """Return a program for these counts of addresses, and the offset of each of its numbers (`_numbers`).

    Two programs with different numbers are compared: where they differ is a number. Raises `ValueError` if it is
    unclear which one.
    """
    samples = [_sample(name, count4, count6) for name in ("one", "other")]
    one, other = (assembled(program(mac, addresses, ethertypes)) for mac, addresses in samples)
    numbers = list(zip(*(_numbers(mac, addresses) for mac, addresses in samples), strict=True))
    places = []
    for offset in range(0, len(one), INSTRUCTION.size):
        (*step, value), (*same, another) = (INSTRUCTION.unpack_from(each, offset) for each in (one, other))
        if step != same or (value != another and numbers.count((value, another)) != 1):
            raise ValueError(f"what differs at {offset} of {one.hex()} is not one of the numbers {numbers}")
        if value != another:
            places.append((offset + INSTRUCTION.size - _NUMBER.size, numbers.index((value, another))))
    return one, places


def _sample(name: str, count4: int, count6: int) -> tuple[MacAddress, frozenset[IpAddress]]:
    """Return a MAC and addresses, of which no number is one that every program has."""
    content = hashlib.shake_128(name.encode()).digest(6 + 4 * count4 + 16 * count6)
    own4, own6 = content[6 : 6 + 4 * count4], content[6 + 4 * count4 :]
    parts4 = (IPv4Address(own4[start : start + 4]) for start in range(0, len(own4), 4))
    parts6 = (IPv6Address(own6[start : start + 16]) for start in range(0, len(own6), 16))
    return MacAddress(content[:6].hex(":")), frozenset([*parts4, *parts6])


def _numbers(mac: MacAddress, addresses: Collection[IpAddress]) -> Sequence[int]:
    """Return the numbers of 32 bits in which programs of one shape differ, in one order."""
    sender = packed_mac(mac)
    own4 = sorted(address.packed for address in addresses if isinstance(address, IPv4Address))
    own6 = sorted(address.packed for address in addresses if isinstance(address, IPv6Address))
    content = b"".join((b"\0\0", sender[4:], link_local(sender).packed[8:], *own4, *own6))
    return struct.unpack(f">{len(content) // 4 + 1}I", sender[:4] + content)


def observed(ns: NamespaceRef, dev: InterfaceName, found: bytes) -> SourceGuard:
    """Return the sources that a device's program admits; nothing for a foreign program, or without one."""
    return SourceGuard(ns, dev, *_sources(found))


@functools.lru_cache(maxsize=1024)
def _sources(code: bytes) -> tuple[MacAddress, frozenset[IpAddress], frozenset[int]]:
    """Return the MAC, addresses and EtherTypes that a program admits; none if it is a foreign program."""
    looked_for: dict[tuple[int, int], list[int]] = {}
    load = (0, 0)
    for kind, _, _, value in INSTRUCTION.iter_unpack(code):
        if kind == JUMP_IF_EQUAL:
            looked_for.setdefault(load, []).append(value)
        elif kind not in (JUMP, RETURN):
            load = (kind, value)
    mac = b"".join(
        looked_for.get((LOADS[size], _MAC + at), [0])[0].to_bytes(4)[-size:] for at, size in ((0, 4), (4, 2))
    )
    own4 = (IPv4Address(value) for value in looked_for.get((LOADS[4], _ARP_ADDRESS), []) if value)
    quarters = (looked_for.get((INDEXED_LOADS[4], _TARGET + at), []) for at in range(0, 16, 4))
    own6 = (IPv6Address(struct.pack(">4I", *four)) for four in zip(*quarters, strict=False))
    given = frozenset[IpAddress]((*own4, *own6)) - {link_local(mac)}
    kinds = frozenset(looked_for.get((LOADS[2], _KIND), ())) - {_IPV4, _IPV6, _ARP}
    found = MacAddress(mac.hex(":")), given, kinds
    return found if _filled(*found) == code else (MacAddress(""), frozenset(), frozenset())


def link_local(mac: bytes) -> IPv6Address:
    """Return the link-local address that the kernel makes of a MAC: its modified EUI-64 (RFC 4291 appendix A)."""
    interface = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return IPv6Address(b"\xfe\x80" + bytes(6) + interface)


def program(
    mac: MacAddress, addresses: Collection[IpAddress], ethertypes: Collection[int] = frozenset()
) -> Iterator[Line]:
    """Yield the program for a container with this MAC and these addresses, on a segment of these EtherTypes."""
    sender = packed_mac(mac)
    own4 = sorted(int(address) for address in addresses if isinstance(address, IPv4Address))
    own6 = sorted(address for address in addresses if isinstance(address, IPv6Address))
    yield Step(LOADS[4], _VLAN_TAG_PRESENT)
    yield from unless(0, _DROP)
    yield from _only_mac(_MAC, sender)
    yield Step(LOADS[2], _KIND)
    for kind, label in ((_IPV4, "IPv4"), (_IPV6, "IPv6"), (_ARP, "ARP")):
        yield from when(kind, to(label))
    for kind in sorted(ethertypes):
        yield from when(kind, _PASS)
    yield _DROP
    yield from ("ARP", *_arp(sender, own4))
    yield from ("IPv4", *_ipv4(own4))
    yield from ("IPv6", *_ipv6([link_local(sender), *own6]))


def _arp(sender: bytes, own: Iterable[int]) -> Iterator[Line]:
    """Yield the steps that admit ARP for IPv4 with the container's own addresses."""
    yield from _as_long_as(_ARP_END)
    for size, offset, value in ((4, _ARP_TYPES, _ARP_OF_ETHERNET_AND_IPV4), (2, _ARP_LENGTHS, _SIX_AND_FOUR)):
        yield Step(LOADS[size], offset)
        yield from unless(value, _DROP)
    yield from _only_mac(_ARP_MAC, sender)
    yield Step(LOADS[4], _ARP_ADDRESS)
    # 0.0.0.0 asks whether an address is taken (RFC 5227).
    for address in (*own, 0):
        yield from when(address, _PASS)
    yield _DROP


def _ipv4(own: Iterable[int]) -> Iterator[Line]:
    """Yield the steps that admit IPv4 from the container's own addresses, but no answer of a DHCP server."""
    yield from _as_long_as(_IPV4_END)
    yield Step(LOADS[4], _IPV4_SOURCE)
    for address in own:
        yield from when(address, to("IPv4 of its own"))
    yield _DROP
    yield "IPv4 of its own"
    yield Step(LOADS[1], _IPV4_PROTOCOL)
    yield from unless(_UDP, _PASS)
    yield from (Step(LOADS[2], _IPV4_FRAGMENT), Step(AND, _FRAGMENT_OFFSET))
    yield from unless(0, _PASS)
    yield Step(INDEX_IPV4_HEADER, _IPV4_HEADER)
    yield from _from_no_server(_IPV4_HEADER, _DHCP_SERVER)
    yield _PASS


def _ipv6(own: Iterable[IPv6Address]) -> Iterator[Line]:
    """Yield the steps that admit IPv6 from the container's own addresses, including the link-local one of its MAC.

    The index is the length of the extension headers that were read over.
    """
    own = tuple(own)
    yield from _as_long_as(_IPV6_END)
    yield Step(INDEX_NUMBER, 0)
    for flag in (_FRAGMENTED, _UNSPECIFIED):
        yield from (Step(LOAD_NUMBER, 0), Step(KEEP, flag))
    for address in own:
        yield from when_words(address.packed, LOADS, _IPV6_SOURCE, to("next header 0"))
    yield from when_words(IPv6Address(0).packed, LOADS, _IPV6_SOURCE, to("unspecified"))
    yield from (_DROP, "unspecified", Step(LOAD_NUMBER, 1), Step(KEEP, _UNSPECIFIED))
    yield from ("next header 0", Step(LOADS[1], _IPV6_NEXT_HEADER))
    for number in range(_EXTENSION_HEADERS_MAX + 1):
        yield from _header(number)
    yield from ("ICMPv6", *_icmpv6(own))
    yield from ("UDP", *_from_no_server(_IPV6_END, _DHCPV6_SERVER))
    yield from ("other", Step(LOAD_KEPT, _UNSPECIFIED), *unless(0, _DROP), _PASS)


def _header(number: int) -> Iterator[Line]:
    """Yield the steps for the header whose type is loaded, after this many extension headers."""
    behind, options, fragment = (f"{what} {number}" for what in ("behind", "options", "fragment"))
    yield from when(_TCP, to("other"))
    yield from when(_UDP, to("UDP"))
    yield from when(_ICMPV6, to("ICMPv6"))
    for kind in _UNREADABLE:
        yield from when(kind, _DROP)
    last = number == _EXTENSION_HEADERS_MAX
    for kind, label in ((_HOP_BY_HOP, options), (_DESTINATION_OPTIONS, options), (_FRAGMENT, fragment)):
        yield from when(kind, _DROP if last else to(label))
    yield to("other")
    if last:
        return
    yield from (fragment, *_reaching(_IPV6_END + _EXTENSION_UNIT))
    yield from (Step(LOAD_NUMBER, 1), Step(KEEP, _FRAGMENTED))
    yield from (Step(INDEXED_LOADS[2], _IPV6_END + 2), Step(AND, _FRAGMENT_OFFSET6))
    # Later fragments pass unread: without the first one, which must hold the upper header, they come to nothing.
    yield from unless(0, to("other"))
    yield from (Step(INDEXED_LOADS[1], _IPV6_END), Step(KEEP, _NEXT), Step(LOAD_NUMBER, 0), to(behind))
    yield from (options, *_reaching(_IPV6_END + _EXTENSION_UNIT))
    yield from (Step(INDEXED_LOADS[1], _IPV6_END), Step(KEEP, _NEXT), Step(INDEXED_LOADS[1], _IPV6_END + 1))
    # What is loaded is the header's length in units, beyond the first one.
    yield from (behind, Step(ADD, 1), Step(SHIFT_LEFT, 3), Step(ADD_INDEX), Step(INDEX_LOADED))
    yield from (Step(LOAD_KEPT, _NEXT), to(f"next header {number + 1}"), f"next header {number + 1}")


def _icmpv6(own: Iterable[IPv6Address]) -> Iterator[Line]:
    """Yield the steps that admit ICMPv6: no messages of routers, and neighbour messages about the container only."""
    yield from _reaching(_IPV6_END + 4)
    yield Step(INDEXED_LOADS[1], _IPV6_END)
    for kind in _OF_ROUTERS:
        yield from when(kind, _DROP)
    yield from when(_ADVERTISEMENT, to("advertisement"))
    yield from when(_SOLICITATION, to("solicitation"))
    for kind in _FROM_NO_ADDRESS:
        yield from when(kind, _PASS)
    yield from (to("other"), "solicitation", Step(LOAD_KEPT, _UNSPECIFIED))
    # From `::` it asks whether its target is taken (RFC 4862); a host that is about to use that address gives it up.
    yield from when(0, _PASS)
    # No neighbour message may be a fragment (RFC 6980).
    yield from ("advertisement", Step(LOAD_KEPT, _FRAGMENTED), *unless(0, _DROP))
    yield from _reaching(_TARGET_END)
    for address in own:
        yield from when_words(address.packed, INDEXED_LOADS, _TARGET, _PASS)
    yield _DROP


def _as_long_as(end: int) -> Iterator[Line]:
    """Yield the steps that drop a frame which ends before this offset."""
    yield from (Step(LOAD_LENGTH), Step(JUMP_IF_AT_LEAST, end, then=1), _DROP)


def _reaching(end: int) -> Iterator[Line]:
    """Yield the steps that drop a frame which ends before this offset from the index."""
    yield from (Step(LOAD_LENGTH), Step(JUMP_IF_AT_LEAST_INDEX, then=1), _DROP)
    yield from (Step(SUBTRACT_INDEX), Step(JUMP_IF_AT_LEAST, end, then=1), _DROP)


def _from_no_server(offset: int, port: int) -> Iterator[Line]:
    """Yield the steps that drop a UDP datagram from this source port; its header is `offset` bytes after the index."""
    yield from (*_reaching(offset + 2), Step(INDEXED_LOADS[2], offset), *when(port, _DROP))


def _only_mac(offset: int, mac: bytes) -> Iterator[Line]:
    for start, size in ((0, 4), (4, 2)):
        yield Step(LOADS[size], offset + start)
        yield from unless(int.from_bytes(mac[start : start + size]), _DROP)
