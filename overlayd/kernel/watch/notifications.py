"""A netlink socket on which the kernel reports changes."""

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Self

from overlayd.kernel.netlink.framing import messages
from overlayd.kernel.netlink.rtnetlink import GROUPS
from overlayd.kernel.netlink.transport import SO_RCVBUFFORCE, SOL_NETLINK
from overlayd.kernel.nfnetlink import NETLINK_NETFILTER, NFNLGRP_NFTABLES
from overlayd.kernel.packets import socket_filter
from overlayd.kernel.packets.classic_bpf import Line
from overlayd.kernel.port import KernelError, translated
from overlayd.kernel.watch.beliefs import Notification

_NETLINK_ADD_MEMBERSHIP = 1
_RECEIVE_BUFFER = 4 << 20
_DATAGRAM_MAX = 1 << 16


class Notifications:
    """Notifications about the namespace in which the calling thread was. Reading never blocks."""

    def __init__(self, protocol: int, groups: Sequence[int], filter_steps: Sequence[Line]) -> None:
        """Raise `KernelError`, EPROTONOSUPPORT when the kernel was built without this protocol."""
        with translated("netlink socket for notifications"), ExitStack() as failure:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
            failure.callback(self._socket.close)
            self._socket.settimeout(0)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _RECEIVE_BUFFER)
            if filter_steps:
                socket_filter.attach(self._socket, filter_steps)
            self._socket.bind((0, 0))
            for group in groups:
                self._socket.setsockopt(SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
            failure.pop_all()

    @classmethod
    def of_rtnetlink(cls, filter_steps: Sequence[Line]) -> Self:
        """Follow links, addresses, routes, neighbours, forwarding entries, and the sysctls that the kernel reports."""
        return cls(socket.NETLINK_ROUTE, GROUPS, filter_steps)

    @classmethod
    def of_nftables(cls) -> Self | None:
        """Follow nft tables; None when this kernel was built without them."""
        try:
            return cls(NETLINK_NETFILTER, [NFNLGRP_NFTABLES], ())
        except KernelError as error:
            if error.errno != errno.EPROTONOSUPPORT:
                raise
            return None

    def fileno(self) -> int:
        """Return the descriptor, readable while something is queued."""
        return self._socket.fileno()

    def queued(self) -> Iterator[Notification]:
        """Yield the queued notifications; raise `KernelError` (ENOBUFS) when some were lost."""
        while data := self._receive():
            for kind, _, _, payload in messages(data):
                yield kind, payload

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_DATAGRAM_MAX)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise KernelError.of(error, "netlink notifications") from error
