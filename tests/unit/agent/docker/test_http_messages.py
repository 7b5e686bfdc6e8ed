import asyncio
import socket

import pytest

from overlayd.agent.docker.http_messages import BODY_MAX, PluginCall, RefusedRequest, parse, read_request

pytestmark = pytest.mark.anyio

HEAD = b"POST /NetworkDriver.Join HTTP/1.1\r\nHost: docker\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


async def received(*pieces: bytes, is_closed: bool = False) -> bytes | None:
    """Return what is read of a client that sends these, and closes its side if so."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)  # noqa: FBT003 - its only parameter
        theirs.setblocking(False)  # noqa: FBT003 - as above
        reading = asyncio.create_task(read_request(ours))
        for piece in pieces:
            await asyncio.get_running_loop().sock_sendall(theirs, piece)
            await asyncio.sleep(0)
        if is_closed:
            theirs.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(10):
            return await reading


@pytest.mark.parametrize(
    "pieces",
    [
        (HEAD + b'Content-Length: 7\r\n\r\n{"a":1}',),
        (HEAD, b"Content-", b"Length: 7\r\n\r", b'\n{"a', b'":1}'),
        (CHUNKED + b'3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n',),
        (CHUNKED, b"7;x=y\r\n", b'{"a":1}', b"\r\n0\r\n", b"\r\n"),
    ],
)
async def test_a_request_is_whole_without_the_end_of_the_connection(pieces: tuple[bytes, ...]) -> None:
    whole = await received(*pieces)
    assert whole is not None
    assert parse(whole) == PluginCall("NetworkDriver.Join", {"a": 1})


async def test_a_call_may_have_no_body() -> None:
    whole = await received(HEAD + b"\r\n")
    assert whole is not None
    assert parse(whole) == PluginCall("NetworkDriver.Join", None)


@pytest.mark.parametrize("pieces", [(), (HEAD,), (HEAD + b"Content-Length: 9\r\n\r\n{}",), (CHUNKED + b"5\r\nab",)])
async def test_what_ends_too_early_is_no_request(pieces: tuple[bytes, ...]) -> None:
    assert await received(*pieces, is_closed=True) is None


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /x HTTP/1.1\r\n\r\n", 405),
        (b"POST x HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 405),
        (HEAD + b"Content-Length: %d\r\n\r\n" % (BODY_MAX + 1), 413),
        (HEAD + b"Content-Length: -1\r\n\r\n", 413),
        (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (CHUNKED + b"zz\r\n\r\n0\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\n" + b"X: y\r\n" * 20_000, 431),
    ],
)
async def test_what_is_no_call_is_refused_with_a_status(sent: bytes, status: int) -> None:
    whole = await received(sent)
    assert whole is not None
    with pytest.raises(RefusedRequest) as refused:
        parse(whole)
    assert refused.value.answered == status
