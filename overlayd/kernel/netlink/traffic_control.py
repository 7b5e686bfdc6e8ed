"""Token bucket filters and programs at ingress hooks: messages with sequence number 0, and what dumps say of them.

Names are those of linux/rtnetlink.h, linux/pkt_sched.h and linux/pkt_cls.h. Ours are known by their handle.
"""

import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from overlayd.dataplane.items import NamespaceRef, RateLimit
from overlayd.kernel.netlink import requests
from overlayd.kernel.netlink.encoder import Structure, encoded, nested
from overlayd.kernel.netlink.framing import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, attributes, packed_number
from overlayd.kernel.netlink.rtnetlink import (
    RTM_DELQDISC,
    RTM_NEWQDISC,
    RTM_NEWTFILTER,
    TC_H_INGRESS,
    TC_H_ROOT,
    TCA_BPF_OPS,
    TCA_KIND,
    TCA_OPTIONS,
    TCA_TBF_PARMS,
    TCA_TBF_RATE64,
    TCMSG,
)
from overlayd.kernel.netlink.template import Template, TemplateFields
from overlayd.model.ids import InterfaceName

HANDLE = 0x6F76 << 16
"""The handle of the qdiscs that are ours, ``6f76:``."""

INGRESS_HANDLE = 0xFFFF0000
"""The handle of the hook for what a device receives, ``ffff:``."""

_TC_LINKLAYER_ETHERNET = 1
_TCA_BPF_FLAG_ACT_DIRECT = 1
_ETH_P_ALL = 3
_PROGRAM_HANDLE, _PROGRAM_INFO = 1, 1 << 16 | socket.htons(_ETH_P_ALL)
"""The first program of a hook, of priority 1 and for every protocol."""

_INSTRUCTION_SIZE = 8
_PROGRAMS_KEPT = 64
"""Templates of programs that are kept: one for each length, and those of a network have few."""

_RATESPEC = "BBHhHI"  # cell_log, linklayer, overhead, cell_align, mpu, rate
_PARAMETERS = struct.Struct("=" + 2 * _RATESPEC + "III")  # rate, peak rate, limit, buffer, mtu
_RATE64 = struct.Struct("=Q")
_NUMBER_MAX = (1 << 32) - 1

Names = Mapping[int, InterfaceName]


def limit_put(item: RateLimit, index: int, flags: int) -> bytes:
    """Return the message that adds or replaces a limit of the device with this index, as its `flags` say."""
    fields = [item.rate.to_bytes(4, sys.byteorder)] if item.rate < _NUMBER_MAX else []
    rate64 = [_RATE64.pack(item.rate)] if item.rate >= _NUMBER_MAX else []
    numbers = (packed_number(item.limit), packed_number(item.depth))
    return _limit(flags, is_long=bool(rate64)).fill(packed_number(index), *fields, *numbers, *rate64)


@lru_cache(None)
def _limit(flags: int, *, is_long: bool) -> Template:
    field = TemplateFields()
    head = _head(field.number(), HANDLE, TC_H_ROOT)
    parameters = {
        "rate___reserved": _TC_LINKLAYER_ETHERNET,  # as which pyroute2 knows struct tc_ratespec's linklayer
        "rate": _NUMBER_MAX if is_long else field.number(),
        "limit": field.number(),
        "buffer": field.number(),
    }
    options = [("TCA_TBF_PARMS", parameters)]
    rate64 = [("TCA_TBF_RATE64", int.from_bytes(field.data(8), sys.byteorder))] if is_long else []
    attributes = (("TCA_KIND", "tbf"), ("TCA_OPTIONS", nested(*options, *rate64)))
    return field.template(encoded(Structure.TRAFFIC, RTM_NEWQDISC, flags, head, attributes))


def limit_deleted(index: int) -> bytes:
    """Return the message that deletes our limit of the device with this index."""
    return _deletion(HANDLE, TC_H_ROOT, "tbf").fill(packed_number(index))


def hook_made(index: int) -> bytes:
    """Return the message that makes the ingress hook of the device with this index."""
    return _hook().fill(packed_number(index))


@lru_cache(1)
def _hook() -> Template:
    field = TemplateFields()
    head = _head(field.number(), INGRESS_HANDLE, TC_H_INGRESS)
    flags = NLM_F_CREATE | NLM_F_EXCL
    return field.template(encoded(Structure.TRAFFIC, RTM_NEWQDISC, flags, head, (("TCA_KIND", "ingress"),)))


def hook_deleted(index: int) -> bytes:
    """Return the message that deletes the ingress hook of the device with this index, with its program."""
    return _deletion(INGRESS_HANDLE, TC_H_INGRESS, "ingress").fill(packed_number(index))


@lru_cache(None)
def _deletion(handle: int, parent: int, kind: str) -> Template:
    field = TemplateFields()
    head = _head(field.number(), handle, parent)
    return field.template(encoded(Structure.TRAFFIC, RTM_DELQDISC, 0, head, (("TCA_KIND", kind),)))


def program_put(index: int, code: bytes) -> bytes:
    """Return the message that puts a program, an array of struct sock_filter, at an ingress hook, or replaces it."""
    return _program(len(code)).fill(packed_number(index), code)


@lru_cache(_PROGRAMS_KEPT)
def _program(size: int) -> Template:
    field = TemplateFields()
    head = _head(field.number(), _PROGRAM_HANDLE, INGRESS_HANDLE, _PROGRAM_INFO)
    options = nested(
        ("TCA_BPF_OPS_LEN", size // _INSTRUCTION_SIZE),
        ("TCA_BPF_OPS", field.data(size)),
        ("TCA_BPF_FLAGS", _TCA_BPF_FLAG_ACT_DIRECT),
    )
    attributes = (("TCA_KIND", "bpf"), ("TCA_OPTIONS", options))
    flags = NLM_F_CREATE | NLM_F_REPLACE
    return field.template(encoded(Structure.TRAFFIC, RTM_NEWTFILTER, flags, head, attributes))


def program_request(index: int) -> bytes:
    """Return the request for the program at the ingress hook of the device with this index."""
    return requests.traffic_filter(index, _PROGRAM_HANDLE, INGRESS_HANDLE, _PROGRAM_INFO)


def program_code(answer: bytes) -> bytes:
    """Return the program of the answer to `program_request`, as it was put; empty when it is of another kind."""
    return attributes(attributes(answer, TCMSG.size).get(TCA_OPTIONS, b"")).get(TCA_BPF_OPS, b"")


def limits(ns: NamespaceRef, payloads: Iterable[bytes], names: Names) -> Iterator[RateLimit]:
    """Yield our limits on the named devices."""
    for payload in payloads:
        _, _, _, index, handle, parent, _ = TCMSG.unpack_from(payload)
        if handle != HANDLE or parent != TC_H_ROOT or index not in names:
            continue
        found = attributes(payload, TCMSG.size)
        if found.get(TCA_KIND) == b"tbf\0":
            options = attributes(found[TCA_OPTIONS])
            *_, rate, _, _, _, _, _, _, limit, depth, _ = _PARAMETERS.unpack_from(options[TCA_TBF_PARMS])
            if TCA_TBF_RATE64 in options:
                (rate,) = _RATE64.unpack(options[TCA_TBF_RATE64])
            yield RateLimit(ns, names[index], rate, depth, limit)


def hooked(payloads: Iterable[bytes], names: Names) -> Iterator[int]:
    """Yield the indexes of those of the named devices that have an ingress hook."""
    for payload in payloads:
        _, _, _, index, handle, *_ = TCMSG.unpack_from(payload)
        if handle == INGRESS_HANDLE and index in names:
            yield index


def _head(index: int, handle: int, parent: int, info: int = 0) -> Mapping[str, int]:
    return {"family": socket.AF_UNSPEC, "index": index, "handle": handle, "parent": parent, "info": info}
