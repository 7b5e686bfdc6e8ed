"""Classic BPF on a netlink socket: notifications that nobody needs are dropped before they are queued.

The kernel of a busy host sends thousands a second, and echoes what the agent itself writes. Offsets are those of struct
nlmsghdr (linux/netlink.h) and of the headers that follow it. The filter loads in network byte order (linux/filter.h),
the messages are in the host's.
"""

import ctypes
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from overlayd.dataplane.ownership import PROTOCOL
from overlayd.kernel.netlink.rtnetlink import (
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    TRAFFIC_CONTROL,
)

_SO_ATTACH_FILTER = 26
_JUMP_IF_EQUAL, _RETURN = 0x15, 0x06
_KEPT_BYTES = 0xFFFFFFFF
_INSTRUCTION = struct.Struct("=HBBI")


@dataclass(frozen=True, slots=True)
class Load:
    """Load `size` bytes at an offset of the message."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class If:
    """Go on behind a label when what was loaded has one of these values."""

    values: tuple[int, ...]
    then: str


@dataclass(frozen=True, slots=True)
class Label:
    """A place to go to."""

    name: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Keep the message, or drop it."""

    keep: bool


Step = Load | If | Label | Verdict

_KIND, _PORT = Load(4, 2), Load(12, 4)
_FAMILY, _ROUTE_LENGTH, _ROUTE_PROTOCOL = Load(16, 1), Load(17, 1), Load(21, 1)
_KEEP, _DROP = Verdict(keep=True), Verdict(keep=False)
_LOAD_CODES = {4: 0x20, 2: 0x28, 1: 0x30}
_ENDINGS = (Label("keep"), _KEEP, Label("drop"), _DROP)


def of_namespace(port: int) -> tuple[Step, ...]:
    """Return the filter for a namespace of ours, in which the agent writes with the socket of this port id.

    Nobody else has business there, so whatever another process does is kept. Of what the kernel does by itself (port
    id 0) only what can be damage is: links, addresses that go, and forwarding entries, which it never ascribes to
    anybody. Routes and neighbours go without a process only together with a link.
    """
    return (
        *(_KIND, If((RTM_NEWLINK, RTM_DELLINK), "keep")),
        *(_PORT, If((port,), "drop"), If((0,), "by itself"), _KEEP),
        *(Label("by itself"), _KIND, If((RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWADDR), "drop")),
        # The chain of a filter comes and goes with it, and is nobody's.
        If(TRAFFIC_CONTROL, "drop"),
        *(If((RTM_NEWNEIGH, RTM_DELNEIGH), "neighbour"), _KEEP),
        *(Label("neighbour"), _FAMILY, If((socket.AF_BRIDGE,), "keep"), _DROP),
        *_ENDINGS,
    )


def of_host(port: int) -> tuple[Step, ...]:
    """Return the filter for the host's own namespace, where routes and neighbours are many and almost all foreign."""
    return (
        *(_KIND, If((RTM_NEWLINK, RTM_DELLINK), "keep")),
        *(_PORT, If((port,), "drop"), _KIND, If((RTM_NEWROUTE, RTM_DELROUTE), "route")),
        *(If((RTM_NEWNEIGH, RTM_DELNEIGH), "neighbour"), If(TRAFFIC_CONTROL, "drop"), _KEEP),
        # A default route, whoever's it is, tells of a gateway.
        *(Label("route"), _ROUTE_PROTOCOL, If((PROTOCOL,), "keep"), _ROUTE_LENGTH, If((0,), "keep"), _DROP),
        *(Label("neighbour"), _PORT, If((0,), "drop"), _KEEP),
        *_ENDINGS,
    )


def assembled(steps: Sequence[Step]) -> bytes:
    """Return the program as the kernel takes it: an array of struct sock_filter (linux/filter.h)."""
    places: dict[str, int] = {}
    count = 0
    for step in steps:
        if isinstance(step, Label):
            places[step.name] = count
        else:
            count += len(step.values) if isinstance(step, If) else 1
    code = bytearray()
    loaded = 4
    for step in steps:
        match step:
            case Load(offset, size):
                code += _INSTRUCTION.pack(_LOAD_CODES[size], 0, 0, offset)
                loaded = size
            case If(values, then):
                for value in values:
                    behind = len(code) // _INSTRUCTION.size + 1
                    code += _INSTRUCTION.pack(_JUMP_IF_EQUAL, places[then] - behind, 0, _swapped(value, loaded))
            case Verdict(keep):
                code += _INSTRUCTION.pack(_RETURN, 0, 0, _KEPT_BYTES if keep else 0)
            case Label():
                pass
    return bytes(code)


def attach(sock: socket.socket, steps: Sequence[Step]) -> None:
    """Let a socket queue only what the filter keeps."""
    attach_code(sock, assembled(steps))


def attach_code(sock: socket.socket, code: bytes) -> None:
    """Let a socket queue only what a program, an array of struct sock_filter, keeps; raise `OSError`."""
    kept = ctypes.create_string_buffer(code, len(code))  # until the kernel has copied it
    program = struct.pack("@HP", len(code) // _INSTRUCTION.size, ctypes.addressof(kept))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _swapped(value: int, size: int) -> int:
    """Return what a load in network byte order gives for a value that stands in the host's."""
    return int.from_bytes(struct.pack({4: "=I", 2: "=H", 1: "=B"}[size], value))
