"""The head of an answer goes out with what follows at once, and alone when nothing does."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from controller.clock import SystemClock
from controller.server import http
from controller.server.bounds import BOUNDS
from controller.server.visitors import Visitors

pytestmark = pytest.mark.anyio


class Wire(asyncio.Transport):
    """A transport that keeps what it is to send, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def answered(send: Callable[[Send], Awaitable[None]], head: bytes = b"GET / HTTP/1.1\r\n\r\n") -> Wire:
    """Return the transport of a connection when an application has sent its answer."""
    done = asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, sending: Send) -> None:
        await send(sending)
        done.set()

    config = Config(app, log_config=None, access_log=False, lifespan="off")
    config.load()
    visitor = Visitors(SystemClock(), BOUNDS).enter("192.0.2.1", lambda: None)
    assert visitor
    wire, protocol = Wire(), http.protocol(config, ServerState(), BOUNDS)(visitor)
    protocol.connection_made(wire)
    protocol.data_received(head)
    await done.wait()
    await asyncio.sleep(0)
    protocol.connection_lost(ConnectionResetError())
    return wire


async def begin(send: Send, length: int) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % length)]})


async def test_an_answer_is_one_write() -> None:
    async def whole(send: Send) -> None:
        await begin(send, 4)
        await send({"type": "http.response.body", "body": b"done"})

    [sent] = (await answered(whole)).sent
    assert sent == b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone"


async def test_the_head_of_a_stream_does_not_wait_for_its_first_line() -> None:
    line = asyncio.Event()

    async def slow(send: Send) -> None:
        await begin(send, 6)
        asyncio.get_running_loop().call_soon(line.set)
        await line.wait()
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    assert [len(each) for each in (await answered(slow)).sent[1:]] == [3, 3]


async def test_all_is_sent_before_the_connection_is_closed() -> None:
    async def whole(send: Send) -> None:
        await begin(send, 0)
        await send({"type": "http.response.body", "body": b""})

    wire = await answered(whole, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert wire.is_closed
    assert b"".join(wire.sent).endswith(b"\r\n\r\n")
