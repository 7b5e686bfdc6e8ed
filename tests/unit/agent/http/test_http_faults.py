"""Servers that do not answer as they should: each fault ends the request, and within the time that it is given."""

import asyncio
import socket
import ssl
import struct
from contextlib import aclosing

import pytest

from overlayd.agent.http import connection
from overlayd.agent.http.fault import HttpFault
from overlayd.agent.http.http_client import HttpRequest, Patience
from tests.support.agents.loopback import unused_url
from tests.support.agents.raw_server import LONG, OK, Peer, Serve, answering, get, making, raw_server

pytestmark = pytest.mark.anyio

SHORT = Patience(30.0, 0.05)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def fault_of(serve: Serve, patience: Patience = LONG, body: bytes | None = None) -> str:
    """Return what a request ends with at a server."""
    async with raw_server(serve) as server, making() as client:
        with pytest.raises(HttpFault) as fault:
            await client.request(HttpRequest("POST", server.url, "/", {}, body), patience)
    return str(fault.value)


def saying(*pieces: bytes, ends: bool) -> Serve:
    """Return what says these to any request, and then ends the connection or goes silent."""

    async def serve(peer: Peer) -> None:
        await peer.request()
        for piece in pieces:
            await peer.say(piece)
        if not ends:
            await peer.gone()

    return serve


async def dripping(peer: Peer) -> None:
    """Send a byte every now and then, and no end."""
    await peer.request()
    await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        await peer.say(b" ")
        await asyncio.sleep(0.005)


async def test_nobody_listens() -> None:
    async with making() as client:
        with pytest.raises(HttpFault, match=r"no connection: .*Connect call failed"):
            await client.request(get(await unused_url()), LONG)


async def test_a_name_that_nobody_knows() -> None:
    async with making() as client:
        with pytest.raises(HttpFault, match="no connection"):
            await client.request(get("http://nobody.invalid:7471"), LONG)


async def test_tls_that_never_begins() -> None:
    async def silent(peer: Peer) -> None:
        await peer.gone()

    async with raw_server(silent) as server, making(ssl.create_default_context(cadata=None)) as client:
        with pytest.raises(HttpFault, match=r"no connection within 0\.05 s"):
            await client.request(get(server.url.replace("http:", "https:")), Patience(0.05, 30.0))
        async with asyncio.timeout(30):
            while not server.peers:  # noqa: ASYNC110 - on a busy machine the server accepts only now, and sets no event
                await asyncio.sleep(0)
            await server.peers[0].ended.wait()


async def test_no_tls_where_there_should_be() -> None:
    async with raw_server(answering) as server, making(ssl.create_default_context(cadata=None)) as client:
        with pytest.raises(HttpFault, match="no connection"):
            await client.request(get(server.url.replace("http:", "https:")), LONG)


async def test_a_server_that_reads_no_request() -> None:
    async def deaf(_peer: Peer) -> None:
        await asyncio.get_running_loop().create_future()

    assert await fault_of(deaf, SHORT, bytes(32 << 20)) == "waited 0.05 s to send the request"


async def test_a_server_that_does_not_answer() -> None:
    assert await fault_of(saying(ends=False), SHORT) == "waited 0.05 s for a response"


@pytest.mark.parametrize("said", [b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nHeader: ", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_headers_that_do_not_end(said: bytes) -> None:
    assert await fault_of(saying(said, ends=False), SHORT) == "waited 0.05 s for a response"


async def test_a_body_that_comes_too_slowly_has_its_time_and_no_more() -> None:
    assert await fault_of(dripping, SHORT) == "waited 0.05 s for the rest of the response"


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{", CHUNKED + b"2\r\n{}\r\n"])
async def test_a_connection_that_ends_half_way(said: bytes) -> None:
    assert "the server closed the connection" in await fault_of(saying(said, ends=True))


async def test_a_connection_that_is_reset_half_way() -> None:
    async def resetting(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\n{")  # whose end would be the end of the connection
        peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.writer.transport.abort()

    assert "the connection broke" in await fault_of(resetting)


async def test_an_answer_that_is_cut_off_is_not_asked_for_again() -> None:
    async def second_is_cut(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await peer.request()
        await peer.say(OK[:-1])

    async with raw_server(second_is_cut, answering) as server, making() as client:
        await client.request(get(server.url), LONG)
        with pytest.raises(HttpFault, match="in the middle"):
            await client.request(get(server.url), LONG)
        assert len(server.peers) == 1


async def test_a_kept_connection_that_goes_silent_is_not_asked_again() -> None:
    async def second_is_silent(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await peer.request()
        await peer.gone()

    async with raw_server(second_is_silent, answering) as server, making() as client:
        await client.request(get(server.url), LONG)
        with pytest.raises(HttpFault, match="for a response"):
            await client.request(get(server.url), SHORT)
        await server.peers[0].ended.wait()
        assert len(server.peers) == 1


@pytest.mark.parametrize("said", [b"rubbish\r\n\r\n", b"\x16\x03\x01" * 100, CHUNKED + b"-1\r\n"])
async def test_what_is_not_http(said: bytes) -> None:
    assert "malformed" in await fault_of(saying(said, ends=False))


async def test_a_body_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RESPONSE_MAX", 100)
    endless = saying(CHUNKED, *[b"40\r\n" + bytes(64) + b"\r\n"] * 3, ends=False)
    assert await fault_of(endless) == "the response is larger than 100 bytes"


async def test_a_refusal_that_comes_before_the_request_is_read() -> None:
    async def refusing(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(b"HTTP/1.1 413 -\r\nContent-Length: 2\r\n\r\n{}")
        await asyncio.get_running_loop().create_future()

    async with raw_server(refusing, answering) as server, making() as client:
        answer = await client.request(HttpRequest("POST", server.url, "/", {}, bytes(32 << 20)), LONG)
        assert answer.status == 413
        await client.request(get(server.url), LONG)
        assert len(server.peers) == 2, "the rest of the first request is never taken for a second one"


async def streamed(serve: Serve, silence: float = 30.0) -> tuple[list[bytes], str | None]:
    """Return the lines of a stream, and the fault with which it ends, if it does not end by itself."""
    found = list[bytes]()
    async with raw_server(serve) as server, making() as client:
        try:
            async with client.stream(get(server.url), LONG) as stream, aclosing(stream.lines(silence)) as lines:
                async for line in lines:
                    found.append(line)
        except HttpFault as fault:
            return found, str(fault)
    return found, None


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_lines_come_however_they_are_cut() -> None:
    said = [b"one\ntw", b"o", b"\n", b"\nfour\nfi", b"ve"]
    ended = saying(CHUNKED, *map(chunk, said), b"0\r\n\r\n", ends=False)
    assert await streamed(ended) == ([b"one", b"two", b"", b"four", b"five"], None)
    until_the_end = saying(b"HTTP/1.1 200 OK\r\n\r\n", *said, ends=True)
    assert await streamed(until_the_end) == ([b"one", b"two", b"", b"four", b"five"], None)


async def test_a_stream_that_breaks_gives_its_whole_lines_first() -> None:
    lines, fault = await streamed(saying(CHUNKED, chunk(b"one\ntwo\nthr"), ends=True))
    assert lines == [b"one", b"two"]
    assert fault
    assert "in the middle" in fault


async def test_a_stream_that_goes_silent() -> None:
    said = await streamed(saying(CHUNKED, chunk(b"one\ntw"), ends=False), 0.05)
    assert said == ([b"one"], "waited 0.05 s for the next line")


async def test_a_line_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LINE_PATIENCE", 0.05)
    lines, fault = await streamed(dripping)
    assert lines == []
    assert fault
    assert "for the next line" in fault
    monkeypatch.setattr(connection, "LINE_PATIENCE", 30.0)
    monkeypatch.setattr(connection, "LINE_MAX", 8)
    assert await streamed(dripping) == ([], "a line is longer than 8 bytes")


async def test_a_stream_that_is_not_taken_is_not_read() -> None:
    line = b"x" * 65535 + b"\n"
    count, sent = 512, 0

    async def serve(peer: Peer) -> None:
        nonlocal sent
        peer.writer.transport.set_write_buffer_limits(0)
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(count):
            await peer.say(line)
            sent += 1

    async with raw_server(serve) as server, making() as client, client.stream(get(server.url), LONG) as stream:
        passes = 0
        before = -1
        while sent != before or passes < 100:  # until nothing more goes out
            passes = passes + 1 if sent == before else 0
            before = sent
            await asyncio.sleep(0)
        assert sent < count
        async with aclosing(stream.lines(30.0)) as lines:
            assert len([line async for line in lines]) == count
        assert sent == count
