"""IPv6 packets whose message stands behind extension headers, which scapy alone would not lie about."""

from collections.abc import Sequence
from dataclasses import dataclass

from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
)
from scapy.packet import Packet, Raw


@dataclass(frozen=True)
class Header:
    """An extension header: its type, and what follows the type of the next one."""

    name: str
    kind: int
    rest: bytes


def stacked(headers: Sequence[Header], message: Packet, kind: int, source: str, to: str) -> Packet:
    """Return a packet with this message, of this kind, behind these headers, each of which names the next."""
    kinds = [*(header.kind for header in headers), kind]
    packet = IPv6(src=source, dst=to, hlim=255, nh=kinds[0])
    for header, following in zip(headers, kinds[1:], strict=True):
        packet /= Raw(bytes([following]) + header.rest)
    # The checksum is the one of the message alone (RFC 8200 section 8.1).
    return packet / Raw(bytes(IPv6(src=source, dst=to, hlim=255, nh=kind) / message)[IPV6_SIZE:])


IPV6_SIZE = 40
ICMPV6, UDP_KIND = 58, 17
HOP_BY_HOP = Header("hop-by-hop options", 0, bytes(IPv6ExtHdrHopByHop(options=[RouterAlert()]))[1:])
OPTIONS = Header("destination options", 60, bytes(IPv6ExtHdrDestOpt())[1:])
LONG_OPTIONS = Header("long options", 60, bytes(IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(250))] * 2))[1:])
READ_OVER = (HOP_BY_HOP, OPTIONS, LONG_OPTIONS)
WHOLE = Header("a fragment header", 44, bytes(IPv6ExtHdrFragment(id=7))[1:])
FIRST = Header("the first fragment's header", 44, bytes(IPv6ExtHdrFragment(id=7, m=1))[1:])
LATER = Header("a later fragment's header", 44, bytes(IPv6ExtHdrFragment(id=7, offset=3))[1:])
UNREADABLE = (
    Header("a routing header", 43, bytes(IPv6ExtHdrRouting(type=0, segleft=0, addresses=[]))[1:]),
    Header("AH", 51, bytes([1]) + bytes(10)),
    *(Header(f"header {kind}", kind, bytes(7)) for kind in (135, 139, 140, 253, 254)),
)
