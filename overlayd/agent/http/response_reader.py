"""One HTTP/1.1 response from the bytes of a connection (RFC 9112). Does no IO."""

from dataclasses import dataclass

import httptools

from overlayd.agent.http.fault import HttpFault

HEAD_MAX = 64 << 10
"""Bytes that may come without anything of a body: status line and headers, extensions of chunks, trailers."""

_FIRST_FINAL, _FIRST_REDIRECT = 200, 300
"""A response with a status below these is interim and the final one follows, or successful (RFC 9110, section 15)."""

_DELIMITING = frozenset({b"content-length", b"transfer-encoding"})


def is_success(status: int) -> bool:
    """Return whether a status says that the request was done."""
    return _FIRST_FINAL <= status < _FIRST_REDIRECT


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole response."""

    status: int
    body: bytes

    @property
    def is_success(self) -> bool:
        return is_success(self.status)


class ResponseReader:
    """Reads one response. `status` is 0 until all its headers have arrived.

    `is_whole` means that it ended at the length that its headers announced. `may_follow` is true if another response
    may come over the same connection.
    """

    def __init__(self) -> None:
        self.status = 0
        self.is_whole = False
        self.has_begun = False
        self.buffered = 0
        """Bytes of the body that the caller has not read yet."""
        self._chunks: list[bytes] = []
        self._is_delimited = False
        self._without_body = 0
        self._has_surplus = False
        self._keeps_alive = False
        self._parser = httptools.HttpResponseParser(self)

    @property
    def may_follow(self) -> bool:
        return self.is_whole and self._keeps_alive and not self._has_surplus

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the connection; raise `HttpFault` when they are no response."""
        self.has_begun = True
        if self.is_whole:
            self._has_surplus = True
            return
        self._without_body += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._check_whole(error)
            self._has_surplus = True
        if self._without_body > HEAD_MAX and not self.is_whole:
            raise HttpFault(f"the response has more than {HEAD_MAX} bytes of headers")

    def _check_whole(self, error: Exception) -> None:
        if not self.is_whole:
            raise HttpFault(f"the response is malformed: {error!r}") from None

    def end(self) -> None:
        """Take the end of the connection; raise `HttpFault` when the response has not come to its own."""
        if self.is_whole:
            return
        if not self.status or self._is_delimited:
            what = "in the middle of the response" if self.has_begun else "without a response"
            raise HttpFault(f"the server closed the connection {what}", is_unanswered=not self.has_begun)
        self.is_whole = True  # of no stated length, it ends with the connection (RFC 9112, section 6.3)

    def take(self) -> bytes:
        """Return the bytes of the body that arrived since the last call."""
        taken = b"".join(self._chunks)
        self._chunks.clear()
        self.buffered = 0
        return taken

    def on_message_begin(self) -> None:
        """Notice a second response, for which there was no request (called by the parser)."""
        self._has_surplus = self.is_whole

    def on_header(self, name: bytes, _value: bytes) -> None:
        """Notice a header that says where the body ends (called by the parser, for trailers too)."""
        if not self.status and name.lower() in _DELIMITING:
            self._is_delimited = True

    def on_headers_complete(self) -> None:
        """Take the status (called by the parser)."""
        status = self._parser.get_status_code()
        if status >= _FIRST_FINAL and not self.is_whole:
            self.status = status
            self._without_body = 0

    def on_body(self, chunk: bytes) -> None:
        """Keep a part of the body (called by the parser)."""
        if not self.is_whole:
            self._chunks.append(chunk)
            self.buffered += len(chunk)
            self._without_body = 0

    def on_message_complete(self) -> None:
        """Notice the end (called by the parser); the final response comes after an interim one."""
        if not self.status:
            self._is_delimited = False
        elif not self.is_whole:
            self.is_whole = True
            self._keeps_alive = self._parser.should_keep_alive()
