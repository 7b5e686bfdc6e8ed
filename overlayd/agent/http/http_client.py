"""Requests to servers, over connections that are kept for the next request."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from overlayd.agent.http.connection import HttpConnection
from overlayd.agent.http.fault import HttpFault
from overlayd.agent.http.origin import HttpOrigin
from overlayd.agent.http.response_reader import HttpResponse, is_success

T = TypeVar("T")

_WITH_CONTENT = frozenset({"POST", "PUT"})
"""Methods of requests that say how long their content is, also when there is none (RFC 9110, section 8.6)."""

IDLE_MAX = 5.0
"""Seconds that a connection without a request is kept: a controller keeps it for a minute, a firewall perhaps less."""

_KEPT_MAX = 4
"""Connections without a request that are kept for each server."""

_SECOND_FAMILY = 0.25
"""Seconds after which the next address of a name is tried beside the one that does not answer (RFC 8305)."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request. `url` names the server, `target` is the path and the query, of printable ASCII."""

    method: str
    url: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    def encoded(self, origin: HttpOrigin) -> bytes:
        """Return the bytes of the request; raise `HttpFault` when a part of it would change the meaning of another."""
        headers = {"Host": origin.authority, "User-Agent": "overlayd", "Accept": "*/*", **self.headers}
        if self.body is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(self.body))}
        elif self.method in _WITH_CONTENT:
            headers["Content-Length"] = "0"
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if not all(line.isascii() and line.isprintable() for line in lines) or " " in self.target:
            raise HttpFault("the request has characters that cannot be sent")
        return "\r\n".join((*lines, "", "")).encode() + (self.body or b"")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: until a connection is there, name look-up and TLS included; and for each part of the response."""

    connect: float
    response: float


class HttpClient:
    """A client of several servers. A server with an https URL must prove its identity by TLS.

    `context` verifies certificates, for `server_name`, or for the host of the URL where `server_name` is None.
    """

    def __init__(self, context: ssl.SSLContext | None, server_name: str | None = None) -> None:
        self._context = context
        self._server_name = server_name
        self._kept: dict[HttpOrigin, dict[HttpConnection, asyncio.TimerHandle]] = {}
        self._generation = 0

    def renew(self) -> None:
        """Close every idle connection, and each other one when its request ends."""
        self._generation += 1
        for connections in self._kept.values():
            for connection, ending in connections.items():
                ending.cancel()
                connection.abort()
        self._kept.clear()

    async def request(self, request: HttpRequest, patience: Patience) -> HttpResponse:
        """Return the whole response; raise `HttpFault`.

        A request to which the server closes a kept connection without a response is sent once more, over a new one: it
        must be one that may be repeated.
        """
        generation = self._generation
        connection, response = await self._send(request, patience, HttpConnection.response)
        if generation == self._generation:
            self._keep(connection, HttpOrigin.of(request.url))
        else:
            connection.abort()
        return response

    @asynccontextmanager
    async def stream(self, request: HttpRequest, patience: Patience) -> AsyncIterator["HttpStream"]:
        """Send a request as `request` does, and yield its response; its connection ends with the block."""
        connection, status = await self._send(request, patience, HttpConnection.status)
        try:
            yield HttpStream(connection, status, patience.response)
        finally:
            connection.abort()

    async def _send(
        self,
        request: HttpRequest,
        patience: Patience,
        send: Callable[[HttpConnection, bytes, float], Coroutine[None, None, T]],
    ) -> tuple[HttpConnection, T]:
        origin = HttpOrigin.of(request.url)
        encoded = request.encoded(origin)
        kept = self._take(origin)
        if kept:
            try:
                return kept, await _whole_or_none(kept, send(kept, encoded, patience.response))
            except HttpFault as fault:
                if not fault.is_unanswered:
                    raise
        made = await self._connect(origin, patience.connect)
        return made, await _whole_or_none(made, send(made, encoded, patience.response))

    async def _connect(self, origin: HttpOrigin, patience: float) -> HttpConnection:
        secured: dict[str, Any] = {}
        if origin.is_secure:
            if self._context is None:
                raise HttpFault("there is nothing to verify the server's certificate with")
            secured = {"ssl": self._context, "server_hostname": self._server_name or origin.host}
        if not origin.is_literal:
            secured |= {"happy_eyeballs_delay": _SECOND_FAMILY}
        try:
            async with asyncio.timeout(patience):
                _, connection = await asyncio.get_running_loop().create_connection(
                    HttpConnection, origin.host, origin.port, **secured
                )
        except TimeoutError:
            raise HttpFault(f"no connection within {patience:g} s") from None
        except OSError as error:
            raise HttpFault(f"no connection: {error}") from None
        return connection

    def _take(self, origin: HttpOrigin) -> HttpConnection | None:
        """Return a kept connection that is open, if there is one: the one that was used last."""
        connections = self._kept.get(origin, {})
        while connections:
            connection, ending = connections.popitem()
            ending.cancel()
            if connection.is_open:
                return connection
        return None

    def _keep(self, connection: HttpConnection, origin: HttpOrigin) -> None:
        connections = self._kept.setdefault(origin, {})
        if not connection.is_open:
            return
        if len(connections) >= _KEPT_MAX:
            connection.abort()
            return

        def forget() -> None:
            ending = connections.pop(connection, None)
            if ending:
                ending.cancel()
                connection.abort()

        connections[connection] = asyncio.get_running_loop().call_later(IDLE_MAX, forget)
        connection.keep(forget)


class HttpStream:
    """A response whose body is taken while it comes."""

    def __init__(self, connection: HttpConnection, status: int, patience: float) -> None:
        self.status = status
        self._connection = connection
        self._patience = patience

    @property
    def is_success(self) -> bool:
        return is_success(self.status)

    def lines(self, silence: float) -> AsyncGenerator[bytes, None]:
        """Yield the lines of the body until it ends; raise `HttpFault`, also after `silence` seconds without data."""
        return self._connection.lines(silence)

    async def whole(self) -> HttpResponse:
        """Return the whole response, of one that is no stream; raise `HttpFault`."""
        return await self._connection.rest(self._patience)


async def _whole_or_none(connection: HttpConnection, sending: Awaitable[T]) -> T:
    """Let a connection be of no more use after a fault: a late response would be taken for that of the next request."""
    try:
        return await sending
    except BaseException:
        connection.abort()
        raise
