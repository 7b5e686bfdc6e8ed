"""A netlink socket on which the kernel tells of changes."""

import errno
import socket
from collections.abc import Iterator, Sequence
from typing import Self

from overlayd.kernel import socket_filter
from overlayd.kernel.beliefs import Notification
from overlayd.kernel.netlink import HEADER
from overlayd.kernel.port import KernelError
from overlayd.kernel.rtnetlink import GROUPS, NFNLGRP_NFTABLES

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_NETLINK_NETFILTER = 12
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 4 << 20
_DATAGRAM_MAX = 1 << 16


class Notifications:
    """What the kernel tells of the namespace in which the calling thread was. Reading never blocks."""

    def __init__(self, protocol: int, groups: Sequence[int], filter_steps: Sequence[socket_filter.Step]) -> None:
        """Raise `KernelError` when the kernel has no such thing."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, f"netlink socket: {error.strerror}") from error
        self._socket.settimeout(0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        if filter_steps:
            socket_filter.attach(self._socket, filter_steps)
        self._socket.bind((0, 0))
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    @classmethod
    def of_rtnetlink(cls, filter_steps: Sequence[socket_filter.Step]) -> Self:
        """Follow links, addresses, routes, neighbours, forwarding entries, and the sysctls that the kernel tells of."""
        return cls(socket.NETLINK_ROUTE, GROUPS, filter_steps)

    @classmethod
    def of_nftables(cls) -> Self:
        """Follow nft tables."""
        return cls(_NETLINK_NETFILTER, [NFNLGRP_NFTABLES], ())

    def fileno(self) -> int:
        """Return the descriptor, readable while something is queued."""
        return self._socket.fileno()

    def queued(self) -> Iterator[Notification]:
        """Yield what is queued; raises `KernelError` (ENOBUFS) when something was lost."""
        while data := self._receive():
            offset = 0
            while offset < len(data):
                length, kind, *_ = HEADER.unpack_from(data, offset)
                yield kind, data[offset + HEADER.size : offset + length]
                offset += (length + 3) & ~3

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_DATAGRAM_MAX)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, f"netlink notifications: {error.strerror}") from error
