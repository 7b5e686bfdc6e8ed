"""The HTTP protocol of the server, with a bound on what comes before a body."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_MAX = 64 * 1024
"""Bytes of a request line and headers; the parser itself would take any number of them into memory."""

_REFUSAL = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"  # RFC 6585


class BoundedHttp(HttpToolsProtocol):
    """Answers 431 to a request with too much before its body, and closes the connection."""

    transport: asyncio.Transport
    _head = 0
    _is_in_head = True

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless it is too much; what follows a head in the same piece is not part of it."""
        super().data_received(data)
        if not self._is_in_head:
            self._head = 0
            return
        self._head += len(data)
        if self._head > HEAD_MAX and not self.transport.is_closing():
            self.transport.write(_REFUSAL)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Count from here: a head begins."""
        self._is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop counting: the head is over."""
        self._is_in_head = False
        super().on_headers_complete()
