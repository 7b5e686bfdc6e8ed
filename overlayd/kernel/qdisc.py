"""Limits as token bucket filters: rtnetlink messages with sequence number 0, and what a dump of qdiscs says.

Names are those of linux/rtnetlink.h and linux/pkt_sched.h. Ours are known by their handle.
"""

import socket
import struct
from collections.abc import Iterable, Iterator

from overlayd.dataplane.items import NamespaceRef, RateLimit
from overlayd.kernel.netlink import HEADER, NLM_F_DUMP, NLM_F_REQUEST
from overlayd.model.ids import InterfaceName

_RTM_NEWQDISC, _RTM_DELQDISC, _RTM_GETQDISC = 36, 37, 38
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TCA_TBF_PARMS, _TCA_TBF_RATE64 = 1, 4
_TC_H_ROOT = 0xFFFFFFFF
_TC_LINKLAYER_ETHERNET = 1

HANDLE = 0x6F76 << 16
"""The handle of the qdiscs that are ours, ``6f76:``."""

_TCMSG = struct.Struct("=BBHiIII")
_ATTRIBUTE = struct.Struct("=HH")
_RATESPEC = "BBHhHI"  # cell_log, linklayer, overhead, cell_align, mpu, rate
_PARAMETERS = struct.Struct("=" + 2 * _RATESPEC + "III")  # rate, peak rate, limit, buffer, mtu
_RATE64 = struct.Struct("=Q")
_NO_PEAK = (0, 0, 0, 0, 0, 0)
_NUMBER_MAX = (1 << 32) - 1
_NLA_TYPE_MASK = 0x3FFF

QDISCS = HEADER.pack(HEADER.size + _TCMSG.size, _RTM_GETQDISC, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + bytes(_TCMSG.size)


def entry(flags: int, item: RateLimit, index: int, *, gone: bool) -> bytes:
    """Return the message that adds, replaces or deletes a limit of the device with this index."""
    kind = _RTM_DELQDISC if gone else _RTM_NEWQDISC
    body = _TCMSG.pack(socket.AF_UNSPEC, 0, 0, index, HANDLE, _TC_H_ROOT, 0)
    body += _attribute(_TCA_KIND, b"tbf\0")
    if not gone:
        rate = (0, _TC_LINKLAYER_ETHERNET, 0, 0, 0, min(item.rate, _NUMBER_MAX))
        options = _attribute(_TCA_TBF_PARMS, _PARAMETERS.pack(*rate, *_NO_PEAK, item.limit, item.depth, 0))
        options += _attribute(_TCA_TBF_RATE64, _RATE64.pack(item.rate)) if item.rate >= _NUMBER_MAX else b""
        body += _attribute(_TCA_OPTIONS, options)
    return HEADER.pack(HEADER.size + len(body), kind, flags, 0, 0) + body


def limits(ns: NamespaceRef, payloads: Iterable[bytes], names: dict[int, InterfaceName]) -> Iterator[RateLimit]:
    """Yield our limits on the named devices."""
    for payload in payloads:
        _, _, _, index, handle, parent, _ = _TCMSG.unpack_from(payload)
        if handle != HANDLE or parent != _TC_H_ROOT or index not in names:
            continue
        found = _attributes(payload, _TCMSG.size)
        if found.get(_TCA_KIND) == b"tbf\0":
            options = _attributes(found[_TCA_OPTIONS])
            *_, rate, _, _, _, _, _, _, limit, depth, _ = _PARAMETERS.unpack_from(options[_TCA_TBF_PARMS])
            if _TCA_TBF_RATE64 in options:
                (rate,) = _RATE64.unpack(options[_TCA_TBF_RATE64])
            yield RateLimit(ns, names[index], rate, depth, limit)


def _attribute(kind: int, payload: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def _attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    found = {}
    while offset < len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        found[kind & _NLA_TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found
