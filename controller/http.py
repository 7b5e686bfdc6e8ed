"""The HTTP protocol of the server, with a bound on everything of a request that is not its body."""

import asyncio
import socket

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_MAX = 64 * 1024
"""Bytes of a request line, headers, trailers, and the lengths of chunks. The parser would take any number of them into
memory; the body is counted where it is read."""

_REFUSAL = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"  # RFC 6585

IS_WAITING = "overlayd.is_waiting"
"""The extension of an ASGI scope that tells whether whoever sent a request still waits for its answer."""

_ESTABLISHED = 1
"""TCP_ESTABLISHED (linux/tcp_states.h); the first byte of the answer to TCP_INFO (tcp(7)) is the state."""


class BoundedHttp(HttpToolsProtocol):
    """Answers 431 to a request with too much beside its body, and closes the connection."""

    transport: asyncio.Transport
    _beside = 0

    def data_received(self, data: bytes) -> None:
        """Parse what came; it may begin a request somewhere inside, and only what comes later is counted to that."""
        self._beside += len(data)
        super().data_received(data)
        if self._beside > HEAD_MAX and not self.transport.is_closing():
            self.transport.write(_REFUSAL)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Count from here."""
        self._beside = 0
        super().on_message_begin()
        extension: dict[object, object] = {"now": self.is_waiting}
        self.scope["extensions"] = {IS_WAITING: extension}

    def is_waiting(self) -> bool:
        """Tell whether the peer still has the connection open, as the kernel knows it now.

        A process that was frozen finds requests in its sockets that were given up long ago, and hears of that only when
        it has read them.
        """
        if self.transport.is_closing():
            return False
        connection: socket.socket = self.transport.get_extra_info("socket")
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED

    def on_body(self, body: bytes) -> None:
        """Take the body out of the count."""
        self._beside -= len(body)
        super().on_body(body)
