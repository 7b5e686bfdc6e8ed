"""One request of a user who is not root, as it comes from the socket: who asks, and what was handed over."""

import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from overlayd.model.errors import OverlayError

FRAME_MAX = 1 << 17
"""Bytes of one request. A document of podman has some hundred, and some hundred more for each published port."""

READ_TIME = 8.0
"""Seconds for one request."""

_CREDENTIALS = struct.Struct("3i")
"""unix(7), struct ucred: process, user and group."""

_DESCRIPTOR = struct.Struct("i")

_PIECE = 65536
"""Bytes read at a time."""


@dataclass(frozen=True, slots=True)
class UserRequest:
    """A request and its user.

    `handed` is a descriptor of the network namespace that came with it, and `owner` whose that is; without one,
    `no_namespace` says why. `refusal` is why the request was not even read.
    """

    uid: int
    frame: bytes = b""
    handed: int | None = None
    owner: int | None = None
    no_namespace: str = "was not handed over"
    refusal: str = ""

    def close(self) -> None:
        """Close what was handed over: a network namespace, for which nothing waits."""
        if self.handed is not None:
            os.close(self.handed)


def peer(channel: socket.socket) -> int:
    """Return the user at the other end of a socket, as this process's user namespace knows it; raise `OSError`."""
    _, uid, _ = _CREDENTIALS.unpack(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


def received(channel: socket.socket, uid: int, owner_of: Callable[[int], int]) -> UserRequest | None:
    """Return the request until the client closes its sending side, None when it is too long; raise `OSError`.

    One descriptor may come, with the first bytes. The kernel closes all others, and this what is no network namespace:
    so it may take for ever, whatever `READ_TIME` is. `owner_of` returns the user to whom a network namespace belongs;
    it raises `OverlayError`.
    """
    deadline = time.monotonic() + READ_TIME
    channel.settimeout(READ_TIME)
    # Not socket.recv_fds(): it forgets its flags in Python 3.11, and programs that the agent starts would inherit.
    room = socket.CMSG_LEN(_DESCRIPTOR.size)
    first, control, _, _ = channel.recvmsg(_PIECE, room, socket.MSG_CMSG_CLOEXEC)
    rights = [data for level, kind, data in control if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)]
    handed = [number for data in rights for (number,) in _DESCRIPTOR.iter_unpack(data)]
    request = _looked_at(UserRequest(uid), handed[0], owner_of) if handed else UserRequest(uid)
    frame, is_whole = bytearray(first), False
    try:
        while len(frame) <= FRAME_MAX:
            channel.settimeout(max(deadline - time.monotonic(), 0.001))  # 0 would mean: do not wait at all
            if not (chunk := channel.recv(_PIECE)):
                break
            frame += chunk
        is_whole = len(frame) <= FRAME_MAX
    finally:
        if not is_whole:
            request.close()
    if not is_whole:
        return None
    channel.setblocking(False)  # noqa: FBT003 - its only parameter
    return UserRequest(uid, bytes(frame), request.handed, request.owner, request.no_namespace)


def _looked_at(request: UserRequest, descriptor: int, owner_of: Callable[[int], int]) -> UserRequest:
    """Return a request with its descriptor if that is of a network namespace, else without it."""
    try:
        return UserRequest(request.uid, handed=descriptor, owner=owner_of(descriptor))
    except OverlayError as error:
        with suppress(OSError):  # close(2) says what its filesystem thinks; closed it is
            os.close(descriptor)
        return UserRequest(request.uid, no_namespace=f"cannot be used: {error}")
