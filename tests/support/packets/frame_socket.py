"""Whole Ethernet frames, sent and received in a container's sandbox by the test itself."""

import socket
from types import TracebackType
from typing import Self

from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.spaces import namespaces
from tests.support.lab.lab import Container

_EVERY_KIND = socket.htons(3)
_FRAME_MAX = 65535
_DEADLINE = 10.0


class FrameSocket:
    """A packet socket at a container's interface, from the moment that it is made."""

    def __init__(self, container: Container) -> None:
        sandbox = NamespaceRef(f"/proc/{container.host.pid}/root{container.sandbox}")
        with namespaces.descriptor(sandbox) as fd, namespaces.entered(fd):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, _EVERY_KIND)
        self._socket.bind((container.interface, 0))
        self._socket.settimeout(_DEADLINE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, *frames: bytes) -> None:
        """Send frames, one after another."""
        for frame in frames:
            self._socket.send(frame)

    def until(self, last: bytes, source: bytes) -> list[bytes]:
        """Return the frames from this MAC that came in before this one did; fail if it does not come."""
        found: list[bytes] = []
        while (frame := self._socket.recv(_FRAME_MAX)) != last:
            if frame[6:12] == source:
                found.append(frame)
        return found
