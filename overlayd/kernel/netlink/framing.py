"""The frame of every netlink message: its header, and the attributes behind it (linux/netlink.h)."""

import errno
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

from overlayd.kernel.port import KernelError

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port id."""

ATTRIBUTE = struct.Struct("=HH")
"""struct nlattr: length, and type."""

NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
NLM_F_DUMP, NLM_F_DUMP_INTR = 0x300, 0x10
NLM_F_ACK_TLVS = 0x200
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800

NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF
"""Without NLA_F_NESTED and NLA_F_NET_BYTEORDER."""

Message = tuple[int, int, int, bytes]
"""Type, flags, sequence number and payload."""


class MessageRun(NamedTuple):
    """A number of messages of one length, one behind the other."""

    data: bytes | bytearray
    number: int


def aligned(length: int) -> int:
    """Return a length in bytes, rounded up to where the next message or attribute begins (NLMSG_ALIGN, NLA_ALIGN)."""
    return (length + 3) & ~3


def message(kind: int, flags: int, body: bytes) -> bytes:
    """Return a request with sequence number 0; `flags` are added to NLM_F_REQUEST."""
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, 0, 0) + body


def messages(data: bytes) -> Iterator[Message]:
    """Yield the messages of one datagram; raise `KernelError` (EBADMSG) when it is damaged."""
    offset, end = 0, len(data)
    while offset < end:
        if end - offset < HEADER.size:
            raise KernelError(errno.EBADMSG, f"{end - offset} bytes behind the last netlink message")
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        if not HEADER.size <= length <= end - offset:
            raise KernelError(errno.EBADMSG, f"a netlink message of {length} bytes, in {end - offset}")
        yield kind, flags, sequence, data[offset + HEADER.size : offset + length]
        offset += aligned(length)


def attribute(kind: int, payload: bytes) -> bytes:
    """Return an attribute, padded to where the next one begins."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def packed_number(value: int) -> bytes:
    """Return a number of 32 bits in host byte order."""
    return value.to_bytes(4, sys.byteorder)


def packed_text(value: str) -> bytes:
    """Return a text with a zero byte at its end."""
    return value.encode() + b"\0"


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Return the attributes that begin at an offset, by their types; raise `KernelError` (EBADMSG) for damaged ones.

    As in the kernel (include/net/netlink.h: nla_ok) each must hold its own header, and end where the data does.
    """
    found: dict[int, bytes] = {}
    end = len(data)
    unpack, head, mask = ATTRIBUTE.unpack_from, ATTRIBUTE.size, _NLA_TYPE_MASK
    try:
        while offset < end:
            length, kind = unpack(data, offset)
            behind = offset + length
            if length < head or behind > end:
                raise KernelError(errno.EBADMSG, f"a netlink attribute of {length} bytes, in {end - offset}")
            found[kind & mask] = data[offset + head : behind]
            offset += (length + 3) & ~3
    except struct.error as error:
        raise KernelError(errno.EBADMSG, f"{end - offset} bytes behind the last netlink attribute") from error
    return found
