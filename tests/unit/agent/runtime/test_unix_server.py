"""The agent's sockets: for root, one request and one answer, bounded."""

import asyncio
import os
import resource
import socket
import stat
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from structlog.testing import capture_logs

from overlayd.agent.runtime.unix_server import REQUEST_MAX, UnixServer
from tests.support.agents.loopback import running

pytestmark = pytest.mark.anyio

PATIENT, IMPATIENT = 60.0, 0.01
"""Seconds of grace: more than a test waits for, and next to none."""


async def length_and_end(request: bytes) -> bytes:
    return b"%d %b" % (len(request), request[-3:])


@asynccontextmanager
async def listening(path: Path) -> AsyncIterator[Path]:
    server = UnixServer(path, length_and_end, PATIENT)
    async with running(server.run()):
        yield path
    server.close()


class Waiting:
    """Answers when it is let; says what has begun and what was cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.requests: list[bytes] = []
        self.cleaned_up = False

    async def __call__(self, request: bytes) -> bytes:
        self.requests.append(request)
        self.begun.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            self.cleaned_up = True
            raise
        return b"done"


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


CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that all users may enter, as those of tests are root's only."""
    with TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


async def test_only_root_and_the_users_that_are_given_connect(open_directory: Path) -> None:
    path = open_directory / "run/s"
    server = UnixServer(path, length_and_end, PATIENT, users=(1235, 1234))

    async def connects(uid: int) -> bool:
        command = [sys.executable, "-ISc", CONNECT, str(path)]
        as_user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *command]
        return await (await asyncio.create_subprocess_exec(*as_user, stderr=DEVNULL)).wait() == 0

    assert [uid for uid in (0, 1233, 1234, 1235, 1236) if await connects(uid)] == [0, 1234, 1235]
    server.close()


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


async def stopping(path: Path, answer: Callable[[bytes], Awaitable[bytes]], grace: float) -> asyncio.Task[None]:
    """Start a server; return its task."""
    return asyncio.create_task(UnixServer(path, answer, grace).run())


async def test_a_stop_lets_what_is_under_way_end_and_takes_no_more(tmp_path: Path) -> None:
    answering = Waiting()
    server = await stopping(tmp_path / "s", answering, PATIENT)
    asked = asyncio.create_task(ask(tmp_path / "s", b"abc"))
    await answering.begun.wait()
    server.cancel()
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="s"):
        await ask(tmp_path / "s", b"late")
    answering.may_end.set()
    assert await asked == b"done"
    await asyncio.wait([server])
    assert server.cancelled()
    assert answering.requests == [b"abc"]


async def test_a_connection_that_comes_as_the_server_stops_is_reset_without_a_traceback(tmp_path: Path) -> None:
    failures: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    server = await stopping(tmp_path / "s", length_and_end, PATIENT)
    await asyncio.sleep(0)
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)  # noqa: FBT003 - its only parameter
        client.connect(str(tmp_path / "s"))
        loop.call_soon(server.cancel)
        await asyncio.wait([server])
        with pytest.raises(ConnectionError):
            await loop.sock_recv(client, 1)
    assert failures == []


async def test_a_stop_cancels_what_takes_too_long_and_waits_until_it_has_cleaned_up(tmp_path: Path) -> None:
    answering = Waiting()
    server = await stopping(tmp_path / "s", answering, IMPATIENT)
    asked = asyncio.create_task(ask(tmp_path / "s", b"abc"))
    await answering.begun.wait()
    server.cancel()
    await asyncio.wait([server])
    assert answering.cleaned_up
    assert await asked == b""


async def test_a_request_whose_client_no_longer_waits_is_not_executed(tmp_path: Path) -> None:
    answering = Waiting()
    answering.may_end.set()
    server = UnixServer(tmp_path / "s", answering, PATIENT)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        client.sendall(b"given up")
        client.shutdown(socket.SHUT_WR)
    async with running(server.run()):
        assert await ask(tmp_path / "s", b"waits") == b"done"
    assert answering.requests == [b"waits"]


async def test_an_unexpected_exception_of_a_request_ends_the_server(tmp_path: Path) -> None:
    async def fail(request: bytes) -> bytes:
        raise LookupError(request)

    server = await stopping(tmp_path / "s", fail, PATIENT)
    assert await ask(tmp_path / "s", b"abc") == b""
    await asyncio.wait([server])
    assert isinstance(server.exception(), ExceptionGroup)


async def test_a_server_that_ends_leaves_the_socket_of_its_successor(tmp_path: Path) -> None:
    before = UnixServer(tmp_path / "s", length_and_end, PATIENT)
    async with listening(tmp_path / "s") as path:
        before.close()
        assert await ask(path, b"abc") == b"3 abc"


async def test_without_descriptors_it_waits_and_says_so_once(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX) as client, capture_logs() as logs:
        server = UnixServer(tmp_path / "s", length_and_end, PATIENT)
        client.setblocking(False)  # noqa: FBT003 - its only parameter
        client.connect(str(tmp_path / "s"))
        client.sendall(b"abc")
        client.shutdown(socket.SHUT_WR)
        free = os.dup(client.fileno())
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            async with running(server.run()):
                async with asyncio.timeout(20):
                    while not logs:  # noqa: ASYNC110 - a log line sets no event
                        await asyncio.sleep(0.01)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                assert await asyncio.get_running_loop().sock_recv(client, 9) == b"3 abc"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [line["event"] for line in logs] == ["no connection can be accepted for now"]


async def test_while_descriptors_are_short_one_timer_tries_again_however_many_requests_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, timers = asyncio.get_running_loop(), list[asyncio.TimerHandle]()

    def call_later(delay: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        timers.append(loop.call_at(loop.time() + delay, callback, *args))
        return timers[-1]

    monkeypatch.setattr(loop, "call_later", call_later)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = UnixServer(tmp_path / "s", length_and_end, PATIENT)
    with ExitStack() as closing:
        clients = [closing.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(6)]
        for client in clients:
            client.setblocking(False)  # noqa: FBT003 - its only parameter
            client.connect(str(tmp_path / "s"))
            client.sendall(b"abc")
            client.shutdown(socket.SHUT_WR)
        free = os.dup(clients[0].fileno())
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
        closing.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        async with running(server.run()):
            for client in clients:
                assert await loop.sock_recv(client, 9) == b"3 abc"
            assert len(timers) > 1, "there was room for one connection at a time"
            assert [timer for timer in timers[:-1] if not timer.cancelled() and timer.when() > loop.time()] == []


async def test_a_socket_that_was_closed_is_not_lost(tmp_path: Path) -> None:
    server = UnixServer(tmp_path / "socket", length_and_end, PATIENT)
    server.close()
    (tmp_path / "socket").write_text("another one's")
    assert not server.is_lost(), "a server that stops must not listen again"
    server.close()
    assert (tmp_path / "socket").exists()
