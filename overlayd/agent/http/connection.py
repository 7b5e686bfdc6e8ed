"""One connection to a server: a request at a time, and its response."""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Callable

from overlayd.agent.http.fault import HttpFault
from overlayd.agent.http.response_reader import HttpResponse, ResponseReader

RESPONSE_MAX = 32 << 20
"""Bytes of a response's body; the largest is the answer to ten thousand endpoints, each of them refused."""

LINE_MAX = 256 << 20
"""Bytes of a line of a stream; the largest is a change that brings this host a network of the greatest size."""

LINE_PATIENCE = 120.0
"""Seconds from the first byte of a line to its last one."""

_BUFFERED_MAX = 1 << 20
"""Bytes of a stream that wait to be taken; while there are more, nothing is read."""

_GONE_AT_ONCE = struct.pack("ii", 1, 0)
"""What is given up is gone: otherwise the kernel would go on sending a request for minutes, and one that arrives after
another controller has done the same may do it again (socket(7): SO_LINGER)."""


class HttpConnection(asyncio.Protocol):
    """A connection that asyncio has made with this protocol. It is used by one task at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._reader = ResponseReader()
        self._is_asked = False
        self._fault: HttpFault | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_sent = True
        self._is_streaming = False
        self._is_paused = False
        self._on_idle_end: Callable[[], None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent, as far as this end knows."""
        return not self._transport.is_closing()

    def keep(self, on_end: Callable[[], None]) -> None:
        """Notice the end of the connection, if it comes before the next request."""
        self._on_idle_end = on_end

    async def response(self, request: bytes, patience: float) -> HttpResponse:
        """Send a request and return the response; another request may follow while the connection `is_open`.

        `patience` is in seconds: for sending, for the status and all headers, and for the whole body, each for itself.
        Raises `HttpFault`, after which the connection is of no use.
        """
        await self._headers(request, patience, is_streaming=False)
        return await self.rest(patience)

    async def status(self, request: bytes, patience: float) -> int:
        """Send a request as `response` does; return the status. `lines` or `rest` gives the body."""
        reader = await self._headers(request, patience, is_streaming=True)
        return reader.status

    async def rest(self, patience: float) -> HttpResponse:
        """Return the whole response to the request that was sent, as `response` does."""
        reader, self._is_streaming = self._reader, False
        self._go_on()
        await self._until(
            lambda: reader.is_whole or reader.buffered > RESPONSE_MAX, patience, "for the rest of the response"
        )
        if reader.buffered > RESPONSE_MAX:
            raise HttpFault(f"the response is larger than {RESPONSE_MAX} bytes")
        self._is_asked = False
        if not (reader.may_follow and self._is_sent):
            self.abort()
        return HttpResponse(reader.status, reader.take())

    async def lines(self, silence: float) -> AsyncGenerator[bytes, None]:
        """Yield the lines of the response's body, without their ends, until the response ends.

        `silence` is how many seconds may pass without anything. Raises `HttpFault`.
        """
        reader, now = self._reader, asyncio.get_running_loop().time
        begun, size, deadline = list[bytes](), 0, 0.0
        while True:
            patience = min(silence, deadline - now()) if begun else silence
            await self._until(lambda: reader.buffered or reader.is_whole, max(patience, 0), "for the next line")
            *ended, last = reader.take().split(b"\n")
            self._go_on()
            for line in ended:
                yield b"".join((*begun, line))
                begun, size = [], 0
            if last:
                deadline = deadline if begun else now() + LINE_PATIENCE
                begun.append(last)
                size += len(last)
            if size > LINE_MAX:
                raise HttpFault(f"a line is longer than {LINE_MAX} bytes")
            if reader.is_whole and not reader.buffered:
                if begun:
                    yield b"".join(begun)
                return

    def abort(self) -> None:
        """End the connection at once, whatever is on its way."""
        self._transport.abort()

    async def _headers(self, request: bytes, patience: float, *, is_streaming: bool) -> ResponseReader:
        reader = self._reader = ResponseReader()
        self._is_asked = True
        self._is_streaming = is_streaming
        self._on_idle_end = None
        self._transport.write(request)
        # A server may answer before it has read everything: that a request is too large, for one.
        await self._until(lambda: self._is_sent or reader.status, patience, "to send the request")
        await self._until(lambda: reader.status, patience, "for a response")
        return reader

    async def _until(self, is_so: Callable[[], object], patience: float, what: str) -> None:
        """Wait until something holds; raise `HttpFault` when the connection has ended, or `patience` (seconds)."""
        if is_so():
            return
        try:
            async with asyncio.timeout(patience):
                while not is_so():
                    if self._fault:
                        raise self._fault
                    self._waiter = asyncio.get_running_loop().create_future()
                    await self._waiter
        except TimeoutError:
            raise HttpFault(f"waited {patience:.3g} s {what}") from None
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _failed(self, fault: HttpFault) -> None:
        self._fault = self._fault or fault
        self.abort()
        self._wake()

    def _go_on(self) -> None:
        if self._is_paused and self.is_open:
            self._is_paused = False
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (called by the event loop)."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("not the transport of a stream")
        self._transport = transport
        transport.set_write_buffer_limits(high=1, low=0)  # `resume_writing` says when the kernel has everything
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _GONE_AT_ONCE)

    def data_received(self, data: bytes) -> None:
        """Take bytes (called by the event loop)."""
        if not self._is_asked:
            self._failed(HttpFault("the server sent something without a request"))
            return
        try:
            self._reader.feed(data)
        except HttpFault as fault:
            self._failed(fault)
            return
        if self._is_streaming and self._reader.buffered > _BUFFERED_MAX and not self._is_paused and self.is_open:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Take the end of what the server sends (called by the event loop, which then closes the connection)."""
        try:
            if self._is_asked:
                self._reader.end()
        except HttpFault as fault:
            self._failed(fault)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection (called by the event loop)."""
        has_begun = self._is_asked and self._reader.has_begun
        self._failed(HttpFault(f"the connection broke: {exc or 'closed'}", is_unanswered=not has_begun))
        if self._on_idle_end:
            self._on_idle_end()

    def pause_writing(self) -> None:
        """Notice that the kernel does not take everything yet (called by the event loop)."""
        self._is_sent = False

    def resume_writing(self) -> None:
        """Notice that it has taken everything (called by the event loop)."""
        self._is_sent = True
        self._wake()
