"""One request of a user who is not root, as it comes from the socket: who asks, and what was handed over."""

import asyncio
import os
import socket
import struct
from dataclasses import dataclass

FRAME_MAX = 1 << 20
"""Bytes of one request: a document of podman has some hundred."""

_CREDENTIALS = struct.Struct("3i")
"""unix(7), struct ucred: process, user and group."""

_DESCRIPTOR = struct.Struct("i")

_PIECE = 65536
"""Bytes read at a time."""


@dataclass(frozen=True, slots=True)
class UserRequest:
    """A request and its user. `handed` are the descriptors that came with it, `refusal` is why it was not even read."""

    uid: int
    frame: bytes = b""
    handed: tuple[int, ...] = ()
    refusal: str = ""

    def close(self) -> None:
        """Close what was handed over."""
        for descriptor in self.handed:
            os.close(descriptor)


def peer(channel: socket.socket) -> int:
    """Return the user at the other end of a socket, as this process's user namespace knows it; raise `OSError`."""
    _, uid, _ = _CREDENTIALS.unpack(channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


async def received(channel: socket.socket, uid: int) -> UserRequest | None:
    """Return the request until the client closes its sending side, None when it is too long; raise `OSError`.

    One descriptor may come, with the first bytes. The kernel closes all others.
    """
    loop = asyncio.get_running_loop()
    await _readable(channel)
    # Not socket.recv_fds(): it forgets its flags in Python 3.11, and programs that the agent starts would inherit.
    room = socket.CMSG_LEN(_DESCRIPTOR.size)
    first, control, _, _ = channel.recvmsg(_PIECE, room, socket.MSG_CMSG_CLOEXEC)
    rights = [data for level, kind, data in control if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)]
    handed = tuple(number for data in rights for (number,) in _DESCRIPTOR.iter_unpack(data))
    request, frame = UserRequest(uid, handed=handed), bytearray(first)
    is_whole = False
    try:
        while len(frame) <= FRAME_MAX and (chunk := await loop.sock_recv(channel, _PIECE)):
            frame += chunk
        is_whole = len(frame) <= FRAME_MAX
    finally:
        if not is_whole:
            request.close()
    return UserRequest(uid, bytes(frame), request.handed) if is_whole else None


async def _readable(channel: socket.socket) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(channel, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(channel)
