"""A small HTTP server on the loopback interface that speaks the controller's API; the test chooses its answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from urllib.parse import parse_qs, unquote, urlsplit

from overlayd.agent.controllers.claims import Claims
from overlayd.agent.controllers.client import ControllerClient, Controllers
from overlayd.agent.controllers.credential import Identity
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.controllers.own_address import OwnAddress
from overlayd.model.cluster import Cluster
from overlayd.model.errors import OverlayError
from overlayd.model.ids import HostId
from overlayd.wire.feed import FeedMessage, encode_line
from overlayd.wire.fields import Json
from tests.support.controllers import clusters

IDENTITY = Identity(HostId("host-1"), "instance-1")


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked for; `query` has the last value of each parameter."""

    method: str
    path: str
    query: dict[str, str]
    body: Json


@dataclass(frozen=True, slots=True)
class Answer:
    """What it gets: a status, and a body as it is."""

    status: int = 200
    body: bytes = b"{}"


def answer(body: Json, status: int = 200) -> Answer:
    return Answer(status, json.dumps(body).encode())


def problem(status: int, code: str, detail: str, field_at_fault: str | None = None) -> Answer:
    return answer({"code": code, "detail": detail, "status": status, "field": field_at_fault}, status)


class Feed:
    """An open feed: sends what the test says, and ends or breaks."""

    def __init__(self, query: dict[str, str], writer: asyncio.StreamWriter) -> None:
        self.query = query
        self._writer = writer

    async def send(self, *messages: FeedMessage | bytes) -> None:
        for message in messages:
            line = message if isinstance(message, bytes) else encode_line(message)
            self._writer.write(b"%x\r\n%b\r\n" % (len(line), line))
        await self._writer.drain()

    def end(self) -> None:
        """End as a controller does that stops."""
        self._writer.write(b"0\r\n\r\n")
        self._writer.close()

    def break_off(self) -> None:
        """Break off in the middle of the stream."""
        self._writer.close()


def registered(request: Request) -> Answer | None:
    """Answer a registration; the default of a server."""
    if request.method == "PUT" and request.path == f"/v1/hosts/{IDENTITY.id}":
        host = clusters.host(1)
        return answer({"id": host.id, "number": host.number, "name": host.name, "address": str(host.address)})
    return None


@dataclass
class Server:
    """Every request is kept and answered by `respond`; where that says None, a GET of the feed opens one."""

    url: str = ""
    respond: Callable[[Request], Answer | None] = registered
    requests: asyncio.Queue[Request] = field(default_factory=asyncio.Queue)
    feeds: asyncio.Queue[Feed] = field(default_factory=asyncio.Queue)
    shown: list[str] = field(default_factory=list)
    """The headers Authorization that came."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                request, headers = await _read(reader)
                self.shown += [value for name, value in headers.items() if name == "authorization"]
                reply = self.respond(request)
                if reply is None and request.path == "/v1/feed":
                    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    self.feeds.put_nowait(Feed(request.query, writer))
                    await reader.read()  # until the client hangs up
                    break
                self.requests.put_nowait(request)
                reply = reply or Answer(404, b"")
                writer.write(b"HTTP/1.1 %d -\r\nContent-Length: %d\r\n\r\n" % (reply.status, len(reply.body)))
                writer.write(reply.body)
                await writer.drain()
        writer.close()


async def _read(reader: asyncio.StreamReader) -> tuple[Request, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    content = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return Request(method, unquote(parts.path), query, json.loads(content) if content else None), headers


@asynccontextmanager
async def controller() -> AsyncIterator[Server]:
    """Run a server until the end of the block."""
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        await listener.wait_closed()


@asynccontextmanager
async def client_of(*servers: Server | str) -> AsyncIterator[ControllerClient]:
    """Make a client of these controllers, in this order."""
    urls = [server if isinstance(server, str) else server.url for server in servers]
    client = ControllerClient(Controllers(urls), IDENTITY, None)
    try:
        yield client
    finally:
        await client.close()


async def unused_url() -> str:
    """Return a URL at which nothing listens."""
    async with controller() as server:
        return server.url


@asynccontextmanager
async def running(actor: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run an actor until the end of the block; it must not end by itself."""
    task = asyncio.create_task(actor)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()


def claims_of(client: ControllerClient) -> Claims:
    """Return the statements of a host without containers."""
    return Claims(client, tuple, Cluster(), lambda _kept: None)


@asynccontextmanager
async def following(*servers: Server | str, cached: Cluster | None = None) -> AsyncIterator[ClusterFeed]:
    """Follow the feed of these controllers, until the end of the block."""
    async with client_of(*servers) as client:
        feed = ClusterFeed(client, cached or Cluster(), claims_of(client))
        async with running(feed.run("node-1", OwnAddress(IPv4Address("192.0.2.1"), ()).current)):
            yield feed


async def in_sync(feed: ClusterFeed, times: int = 1) -> Cluster:
    """Wait until the feed was declared in sync so many times; return what is known then."""
    while feed.syncs.count < times:
        await feed.syncs.wait(feed.syncs.count)
    return feed.cluster


async def request_to(server: Server, method: str, path: str) -> Request:
    """Return the next request of this kind; others before it are dropped."""
    while True:
        request = await server.requests.get()
        if (request.method, request.path) == (method, path):
            return request


async def at(feed: ClusterFeed, revision: int) -> Cluster:
    """Wait until the cluster is known as of this revision."""
    while feed.cluster.revision != revision:
        await feed.revisions.wait(feed.revisions.count)
    return feed.cluster


async def failed(feed: ClusterFeed) -> OverlayError:
    """Wait until the feed has a problem."""
    while feed.problem is None:
        await feed.changes.wait(feed.changes.count)
    return feed.problem
