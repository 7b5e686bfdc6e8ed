"""The HTTP protocol of the server, with bounds on the time of a request and on its size without the body."""

import asyncio
import socket
from collections.abc import Callable

from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from controller.server.bounds import ConnectionBounds
from controller.server.visitors import Visitor
from overlayd.wire.credentials import TokenId

HEAD_MAX = 64 * 1024
"""Bytes of a request line, headers, trailers, and the lengths of chunks. The parser would take any number of them into
memory; the body is counted where it is read."""

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
"""RFC 6585, section 5."""

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
"""RFC 9110, section 15.5.9."""

IS_WAITING = "overlayd.is_waiting"
"""The extension of an ASGI scope that says whether the client still waits for the answer."""

_RECOGNISE = "overlayd.recognise"
"""The extension of an ASGI scope that takes a connection out of the bounds for strangers."""

_ESTABLISHED = 1
"""TCP_ESTABLISHED (linux/tcp_states.h); the first byte of the answer to TCP_INFO (tcp(7)) is the state."""


def recognise(scope: Scope, token: TokenId | None) -> None:
    """Note that the sender of a request has shown this valid token, or that none is asked for (None)."""
    if extension := scope.get("extensions", {}).get(_RECOGNISE):
        extension["now"](token)


class _Gathering(asyncio.Transport):
    """The transport of one answer: its head goes out together with what follows in the same turn of the event loop.

    Each write is a TLS record and a system call, for the peer too.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._is_begun = False
        self._flushing: asyncio.Handle | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send data; of the first one it is told later in this turn whether it is alone."""
        if self._is_begun:
            self.flush(data)
        else:
            self._head, self._is_begun = bytes(data), True
            self._flushing = self._loop.call_soon(self.flush)

    def flush(self, data: bytes | bytearray | memoryview = b"") -> None:
        """Send the head if it waits, and data with it."""
        if self._flushing:
            self._flushing.cancel()
            self._flushing = None
            self._head, data = b"", self._head + data
        if data:
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection once all is sent."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Return whether the connection is closed or about to be."""
        return self._transport.is_closing()


class BoundedHttp(HttpToolsProtocol):
    """Answers 431 to a request whose head is too large and 408 to one that is too slow, and closes."""

    transport: asyncio.Transport

    def __init__(self, visitor: Visitor, config: Config, state: ServerState, bounds: ConnectionBounds) -> None:
        super().__init__(config, state, {})
        self._visitor = visitor
        self._bounds = bounds
        self._beside = 0
        self._is_in_message = False
        self._answering = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, with a time for the first request's head."""
        super().connection_made(transport)
        self._allow(self._bounds.head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the connection."""
        self._disarm()
        self._visitor.leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; it may begin a request somewhere inside, and only what comes later is counted to that."""
        self._beside += len(data)
        super().data_received(data)
        if self._beside > HEAD_MAX and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._deadline is None and not self._is_in_message and not self._answering:
            # Empty lines before a request are none (RFC 9112, section 2.2), and have ended the time of keep-alive.
            self._allow(self._bounds.head)

    def on_message_begin(self) -> None:
        """Count bytes and time from here."""
        self._beside = 0
        self._is_in_message = True
        self._allow(self._bounds.head)
        super().on_message_begin()
        waiting: dict[object, object] = {"now": self.is_waiting}
        recognising: dict[object, object] = {"now": self._visitor.recognise}
        self.scope["extensions"] = {IS_WAITING: waiting, _RECOGNISE: recognising}

    def on_headers_complete(self) -> None:
        """Give the body its time."""
        self._allow(self._bounds.body)
        self._answering += 1
        super().on_headers_complete()
        self.cycle.transport = _Gathering(self.transport, self.loop)

    def on_response_complete(self) -> None:
        """Note that one more request is answered."""
        self._answering -= 1
        super().on_response_complete()

    def on_message_complete(self) -> None:
        """Set no time limit for the answer."""
        self._is_in_message = False
        self._disarm()
        super().on_message_complete()

    def is_waiting(self) -> bool:
        """Return whether the peer still has the connection open, as the kernel knows it now.

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

    def _allow(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self._is_in_message and not self._answering:
            self.transport.write(_TOO_SLOW)
        self.transport.close()


def protocol(config: Config, state: ServerState, bounds: ConnectionBounds) -> Callable[[Visitor], BoundedHttp]:
    """Return the factory of connections' protocols."""
    return lambda visitor: BoundedHttp(visitor, config, state, bounds)
