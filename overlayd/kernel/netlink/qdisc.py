"""Limits as token bucket filters: rtnetlink messages with sequence number 0, and what a dump of qdiscs says.

Names are those of linux/rtnetlink.h and linux/pkt_sched.h. Ours are known by their handle.
"""

import socket
import struct
from collections.abc import Iterable, Iterator

from overlayd.dataplane.items import NamespaceRef, RateLimit
from overlayd.kernel.netlink.rtnetlink import RTM_DELQDISC, RTM_NEWQDISC
from overlayd.kernel.netlink.transport import HEADER, NLM_F_DUMP, NLM_F_REQUEST, attributes
from overlayd.model.ids import InterfaceName

_RTM_GETQDISC = 38
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TCA_TBF_PARMS, _TCA_TBF_RATE64 = 1, 4
_TC_H_ROOT = 0xFFFFFFFF
_TC_LINKLAYER_ETHERNET = 1

HANDLE = 0x6F76 << 16
"""The handle of the qdiscs that are ours, ``6f76:``."""

INGRESS_HANDLE = 0xFFFF0000
"""The handle of the hook for what a device receives, ``ffff:``."""

TCMSG = struct.Struct("=BBHiIII")
"""struct tcmsg (linux/rtnetlink.h): family, padding, padding, ifindex, handle, parent, info."""

_ATTRIBUTE = struct.Struct("=HH")
_RATESPEC = "BBHhHI"  # cell_log, linklayer, overhead, cell_align, mpu, rate
_PARAMETERS = struct.Struct("=" + 2 * _RATESPEC + "III")  # rate, peak rate, limit, buffer, mtu
_RATE64 = struct.Struct("=Q")
_NO_PEAK = (0, 0, 0, 0, 0, 0)
_NUMBER_MAX = (1 << 32) - 1

QDISCS = HEADER.pack(HEADER.size + TCMSG.size, _RTM_GETQDISC, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + bytes(TCMSG.size)


def entry(flags: int, item: RateLimit, index: int, *, gone: bool) -> bytes:
    """Return the message that adds, replaces or deletes a limit of the device with this index."""
    kind = RTM_DELQDISC if gone else RTM_NEWQDISC
    body = TCMSG.pack(socket.AF_UNSPEC, 0, 0, index, HANDLE, _TC_H_ROOT, 0)
    body += attribute(_TCA_KIND, b"tbf\0")
    if not gone:
        rate = (0, _TC_LINKLAYER_ETHERNET, 0, 0, 0, min(item.rate, _NUMBER_MAX))
        options = attribute(_TCA_TBF_PARMS, _PARAMETERS.pack(*rate, *_NO_PEAK, item.limit, item.depth, 0))
        options += attribute(_TCA_TBF_RATE64, _RATE64.pack(item.rate)) if item.rate >= _NUMBER_MAX else b""
        body += attribute(_TCA_OPTIONS, options)
    return HEADER.pack(HEADER.size + len(body), kind, flags, 0, 0) + body


def limits(ns: NamespaceRef, payloads: Iterable[bytes], names: dict[int, InterfaceName]) -> Iterator[RateLimit]:
    """Yield our limits on the named devices."""
    for payload in payloads:
        _, _, _, index, handle, parent, _ = TCMSG.unpack_from(payload)
        if handle != HANDLE or parent != _TC_H_ROOT or index not in names:
            continue
        found = attributes(payload, TCMSG.size)
        if found.get(_TCA_KIND) == b"tbf\0":
            options = attributes(found[_TCA_OPTIONS])
            *_, rate, _, _, _, _, _, _, limit, depth, _ = _PARAMETERS.unpack_from(options[_TCA_TBF_PARMS])
            if _TCA_TBF_RATE64 in options:
                (rate,) = _RATE64.unpack(options[_TCA_TBF_RATE64])
            yield RateLimit(ns, names[index], rate, depth, limit)


def guarded(payloads: Iterable[bytes], names: dict[int, InterfaceName]) -> Iterator[int]:
    """Yield the indexes of those of the named devices that have an ingress hook."""
    for payload in payloads:
        _, _, _, index, handle, *_ = TCMSG.unpack_from(payload)
        if handle == INGRESS_HANDLE and index in names:
            yield index


def attribute(kind: int, payload: bytes) -> bytes:
    """Return a netlink attribute."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)
