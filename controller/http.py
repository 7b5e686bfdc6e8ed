"""The HTTP protocol of the server, with a bound on everything of a request that is not its body."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_MAX = 64 * 1024
"""Bytes of a request line, headers, trailers, and the lengths of chunks. The parser would take any number of them into
memory; the body is counted where it is read."""

_REFUSAL = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"  # RFC 6585


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

    def on_body(self, body: bytes) -> None:
        """Take the body out of the count."""
        self._beside -= len(body)
        super().on_body(body)
