"""The agent's sockets: for root, one request and one answer, bounded."""

import asyncio
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from overlayd.agent.unix_server import REQUEST_MAX, serve

pytestmark = pytest.mark.anyio


async def length_and_end(request: bytes) -> bytes:
    return b"%d %b" % (len(request), request[-3:])


@asynccontextmanager
async def listening(path: Path) -> AsyncIterator[Path]:
    server = await serve(path, length_and_end)
    try:
        yield path
    finally:
        server.close()
        await server.wait_closed()


async def ask(path: Path, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(request)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_request_ends_where_the_client_stops_sending(tmp_path: Path) -> None:
    async with listening(tmp_path / "run" / "s") as path:
        assert await ask(path, b"") == b"0 "
        assert await ask(path, b"abc\0\0def") == b"8 def"
        assert await ask(path, b"x" * REQUEST_MAX) == b"%d xxx" % REQUEST_MAX


async def test_the_socket_is_for_root_only(tmp_path: Path) -> None:
    async with listening(tmp_path / "run" / "s") as path:
        assert [stat.S_IMODE(made.stat().st_mode) for made in (path.parent, path)] == [0o700, 0o600]


async def test_the_socket_of_a_killed_agent_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    async with listening(tmp_path / "s") as path:
        assert await ask(path, b"abc") == b"3 abc"


async def test_a_request_that_is_too_long_is_not_answered(tmp_path: Path) -> None:
    async with listening(tmp_path / "s") as path:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.settimeout(0)
            with pytest.raises(ConnectionError):  # it hangs up on what is still being sent, or before it answers
                await send_for_ever(client)
        assert await ask(path, b"abc") == b"3 abc"


async def send_for_ever(client: socket.socket) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(client, b"x" * 65536)


async def test_a_client_that_goes_away_disturbs_nobody(tmp_path: Path) -> None:
    async with listening(tmp_path / "s") as path:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.send(b"half a request")
        assert await asyncio.gather(*(ask(path, b"abc") for _ in range(50))) == [b"3 abc"] * 50
