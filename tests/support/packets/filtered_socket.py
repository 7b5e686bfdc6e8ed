"""What the kernel keeps of frames by a program of classic BPF, without a network."""

import socket
from types import TracebackType
from typing import Self

from scapy.packet import Packet

from overlayd.kernel.packets.socket_filter import attach_code

_FRAME_MAX = 65535


class FilteredSocket:
    """A pair of sockets, the program between them: it sees what is sent as it would see a frame."""

    def __init__(self, code: bytes) -> None:
        self._sender, self._receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        attach_code(self._receiver, code)
        self._receiver.setblocking(False)  # noqa: FBT003 - the library's own

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sender.close()
        self._receiver.close()

    def keeps(self, frame: Packet | bytes) -> bytes | None:
        """Return as much of a frame as the program keeps, None when it drops it."""
        self._sender.send(bytes(frame))
        try:
            return self._receiver.recv(_FRAME_MAX)
        except BlockingIOError:
            return None
