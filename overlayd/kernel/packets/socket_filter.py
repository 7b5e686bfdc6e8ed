"""Classic BPF on a netlink socket: notifications that the agent does not need are dropped before they are queued.

The kernel of a busy host sends thousands a second, and reports the agent's own changes too. Offsets are those of struct
nlmsghdr (linux/netlink.h) and of the headers that follow it. The filter loads in network byte order (linux/filter.h),
the messages are in the host's.
"""

import ctypes
import socket
import struct
from collections.abc import Iterable, Iterator

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
from overlayd.kernel.packets.classic_bpf import INSTRUCTION, JUMP_IF_EQUAL, LOADS, RETURN, Line, Step, assembled

_SO_ATTACH_FILTER = 26
_KEPT_BYTES = 0xFFFFFFFF
_KIND, _PORT = Step(LOADS[2], 4), Step(LOADS[4], 12)
_FAMILY, _ROUTE_LENGTH, _ROUTE_PROTOCOL = Step(LOADS[1], 16), Step(LOADS[1], 17), Step(LOADS[1], 21)
_KEEP, _DROP = Step(RETURN, _KEPT_BYTES), Step(RETURN)
_ENDINGS = ("keep", _KEEP, "drop", _DROP)


def of_namespace(port: int) -> tuple[Line, ...]:
    """Return the filter for a namespace of ours, in which the agent writes with the socket of this port id.

    No other process is expected to write there, so all changes of others are kept. Of the kernel's own changes (port id
    0) only possible damage is kept: links, removed addresses, and forwarding entries, which it never ascribes to a
    process. The kernel removes routes and neighbours by itself only together with a link.
    """
    return (
        *(_KIND, *_kinds(RTM_NEWLINK, RTM_DELLINK, label="keep")),
        *(_PORT, _port(port, "drop"), _port(0, "by itself"), _KEEP),
        "by itself",
        *(_KIND, *_kinds(RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWADDR, label="drop")),
        # The chain of a filter comes and goes with it, and the kernel names no process for it.
        *_kinds(*TRAFFIC_CONTROL, label="drop"),
        *(*_kinds(RTM_NEWNEIGH, RTM_DELNEIGH, label="neighbour"), _KEEP),
        *("neighbour", _FAMILY, _byte(socket.AF_BRIDGE, "keep"), _DROP),
        *_ENDINGS,
    )


def of_host(port: int) -> tuple[Line, ...]:
    """Return the filter for the host's own namespace, where routes and neighbours are many and almost all foreign."""
    return (
        *(_KIND, *_kinds(RTM_NEWLINK, RTM_DELLINK, label="keep")),
        *(_PORT, _port(port, "drop"), _KIND, *_kinds(RTM_NEWROUTE, RTM_DELROUTE, label="route")),
        *(*_kinds(RTM_NEWNEIGH, RTM_DELNEIGH, label="neighbour"), *_kinds(*TRAFFIC_CONTROL, label="drop"), _KEEP),
        # A default route, ours or not, names a gateway.
        *("route", _ROUTE_PROTOCOL, _byte(PROTOCOL, "keep"), _ROUTE_LENGTH, _byte(0, "keep"), _DROP),
        *("neighbour", _PORT, _port(0, "drop"), _KEEP),
        *_ENDINGS,
    )


def _kinds(*values: int, label: str) -> Iterator[Step]:
    """Yield jumps to a label when the type that was loaded is one of these."""
    return (Step(JUMP_IF_EQUAL, _as_loaded("=H", value), label=label) for value in values)


def _port(value: int, label: str) -> Step:
    return Step(JUMP_IF_EQUAL, _as_loaded("=I", value), label=label)


def _byte(value: int, label: str) -> Step:
    return Step(JUMP_IF_EQUAL, value, label=label)


def _as_loaded(layout: str, value: int) -> int:
    """Return the result of a load in network byte order of a value in the host's byte order."""
    return int.from_bytes(struct.pack(layout, value))


def attach(sock: socket.socket, lines: Iterable[Line]) -> None:
    """Let a socket queue only what a program keeps; raise `OSError`."""
    attach_code(sock, assembled(lines))


def attach_code(sock: socket.socket, code: bytes) -> None:
    """Let a socket queue only what an assembled program keeps; raise `OSError`."""
    kept = ctypes.create_string_buffer(code, len(code))  # until the kernel has copied it
    program = struct.pack("@HP", len(code) // INSTRUCTION.size, ctypes.addressof(kept))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
