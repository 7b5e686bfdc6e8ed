"""A server on the loopback interface whose connections the test serves byte by byte."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from overlayd.agent.http.http_client import HttpClient, HttpRequest, Patience

LONG = Patience(30.0, 30.0)
"""More than a test takes."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Peer:
    """The server's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """The connection has ended, or what serves it."""

    async def request(self) -> bytes:
        """Return the head of the next request; its body, if it has one, is read and dropped."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length: "):
                await self.reader.readexactly(int(line.partition(b": ")[2]))
        return head

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has ended the connection."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Serve = Callable[[Peer], Coroutine[None, None, None]]
"""Serves one connection, which ends when it returns."""


@dataclass
class RawServer:
    url: str
    serves: list[Serve]
    peers: list[Peer] = field(default_factory=list)


@asynccontextmanager
async def raw_server(
    *serves: Serve, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Serve the first connection by the first of these, the next by the next, and the rest by the last one."""
    server = RawServer("", list(serves))
    tasks = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        peer = Peer(reader, writer)
        server.peers.append(peer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await server.serves[min(len(server.peers), len(server.serves)) - 1](peer)
        writer.close()
        tasks.discard(task)
        peer.ended.set()

    listener = await asyncio.start_server(serve, host, 0, ssl=context)
    port = listener.sockets[0].getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    server.url = f"{'https' if context else 'http'}://{shown}:{port}"
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


async def answering(peer: Peer) -> None:
    """Answer every request over one connection."""
    while True:
        await peer.request()
        await peer.say(OK)


@asynccontextmanager
async def making(context: ssl.SSLContext | None = None, name: str | None = None) -> AsyncIterator[HttpClient]:
    """Make a client, whose kept connections end with the block."""
    client = HttpClient(context, name)
    try:
        yield client
    finally:
        client.renew()
        await asyncio.sleep(0)


def get(url: str, target: str = "/") -> HttpRequest:
    return HttpRequest("GET", url, target)
