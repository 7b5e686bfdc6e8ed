"""Connections without a token: they have little time, and there are few of them, whatever their peers do or leave."""

import asyncio
import resource
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from controller.clock import SystemClock
from controller.server import http
from controller.server.bounds import ConnectionBounds
from controller.server.listener import Listener
from overlayd.wire.credentials import TokenId
from tests.integration.api.test_abuse import raw
from tests.support.controllers.secure import SecureController, secure_controller
from tests.support.lab.processes import eventually

pytestmark = pytest.mark.anyio

SHORT = ConnectionBounds(handshake=0.2, farewell=0.2, head=0.2, body=0.2)
"""Times for peers that do nothing in them."""

PATIENT = 20.0
"""Seconds after which a test gives up waiting for an end."""

HEAD = b"POST /things HTTP/1.1\r\nHost: c\r\nContent-Length: 10\r\n"


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureController]:
    with secure_controller(tmp_path_factory.mktemp("secure")) as running:
        yield running


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Take a request whole and answer it; one for /known… has shown a token, one for each such path."""
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.disconnect":
        return
    if scope["path"].startswith("/known"):
        http.recognise(scope, TokenId(scope["path"]))
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@asynccontextmanager
async def listening(bounds: ConnectionBounds) -> AsyncIterator[int]:
    """Serve within these bounds; return the port."""
    config = uvicorn.Config(application, lifespan="off", log_config=None)
    config.load()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        listener = Listener([sock], None, http.protocol(config, ServerState(), bounds), SystemClock(), bounds)
        running = asyncio.create_task(listener.run())
        try:
            yield sock.getsockname()[1]
        finally:
            running.cancel()
            await asyncio.wait([running])


async def connected(port: int, source: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Return what a peer gets until the connection ends."""
    async with asyncio.timeout(PATIENT):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b"GET /th", b"HTTP/1.1 408 "),
        (HEAD, b"HTTP/1.1 408 "),
        (HEAD + b"\r\n{", b""),
        (b"GET /known HTTP/1.1\r\nHost: c\r\n\r\nGET /known HTTP/1.1\r\nHo", b"HTTP/1.1 204 "),
        (b"GET /known HTTP/1.1\r\nHost: c\r\n\r\n\r\n", b"HTTP/1.1 204 "),
    ],
)
async def test_what_is_not_sent_in_time_ends_the_connection(sent: bytes, answer: bytes) -> None:
    async with listening(SHORT) as port:
        reader, writer = await connected(port)
        with closing(writer):
            writer.write(sent)
            assert (await rest(reader)).startswith(answer)


async def test_time_is_not_won_by_sending_slowly() -> None:
    async with listening(ConnectionBounds(head=0.3)) as port:
        reader, writer = await connected(port)
        ending = asyncio.create_task(rest(reader))
        with closing(writer):
            writer.write(b"GET / HTTP/1.1\r\n")
            while not ending.done():
                writer.write(b"X-Padding: x\r\n")
                await asyncio.wait([ending], timeout=0.02)
        assert b" 408 " in await ending


async def test_one_address_has_its_bound_and_keeps_nobody_else_out() -> None:
    async with listening(ConnectionBounds(peer=3)) as port:
        with ExitStack() as open_connections:
            for _ in range(3):
                open_connections.enter_context(closing((await connected(port))[1]))
            reader, writer = await connected(port)
            with closing(writer):
                assert await rest(reader) == b""
            other, sending = await connected(port, "127.0.0.2")
            with closing(sending):
                sending.write(b"GET / HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n")
                assert (await rest(other)).startswith(b"HTTP/1.1 204 ")


async def test_the_oldest_stranger_makes_room_and_those_with_a_token_stay() -> None:
    async with listening(ConnectionBounds(strangers=2)) as port:
        known, sending = await connected(port)
        with closing(sending), ExitStack() as open_connections:
            sending.write(b"GET /known HTTP/1.1\r\nHost: c\r\n\r\n")
            assert b" 204 " in await known.readuntil(b"\r\n\r\n")
            strangers = [await connected(port, f"127.0.0.{2 + number}") for number in range(4)]
            for _, writer in strangers:
                open_connections.enter_context(closing(writer))
            assert [await rest(reader) for reader, _ in strangers[:2]] == [b"", b""]
            assert not any(reader.at_eof() for reader, _ in strangers[2:])
            sending.write(b"GET /known HTTP/1.1\r\nHost: c\r\n\r\n")
            assert b" 204 " in await known.readuntil(b"\r\n\r\n")


async def test_a_token_has_its_bound_and_its_oldest_connection_goes() -> None:
    async with listening(ConnectionBounds(token=2)) as port:
        with ExitStack() as open_connections:
            made = []
            for path in ("/known-1", "/known-2", "/known-1", "/known-1"):
                reader, writer = await connected(port)
                open_connections.enter_context(closing(writer))
                for _ in range(2):  # a further request over the same connection is no further connection
                    writer.write(f"GET {path} HTTP/1.1\r\nHost: c\r\n\r\n".encode())
                    assert b" 204 " in await reader.readuntil(b"\r\n\r\n")
                made.append((reader, writer))
            assert await rest(made[0][0]) == b""
            for (reader, writer), path in zip(made[1:], ("/known-2", "/known-1", "/known-1"), strict=True):
                writer.write(f"GET {path} HTTP/1.1\r\nHost: c\r\n\r\n".encode())
                assert b" 204 " in await reader.readuntil(b"\r\n\r\n")


def test_a_real_controller_ends_handshakes_and_requests_that_stand_still(controller: SecureController) -> None:
    quiet = socket.create_connection(("127.0.0.1", controller.port), timeout=PATIENT)
    half = raw(controller)
    with quiet, half:
        half.settimeout(PATIENT)
        half.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        assert quiet.recv(1) == b""
        assert half.recv(13) == b"HTTP/1.1 408 "


def test_malformed_requests_fill_no_log(controller: SecureController) -> None:
    for _ in range(20):
        with raw(controller) as connection:
            connection.sendall(b"NONSENSE\r\n\r\n")
            assert b" 400 " in connection.recv(4096)
    assert (controller.directory / "controller.log").read_text().count("Invalid HTTP request received") == 1


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\xff\xff" + b"\0" * 64, b"GET / HTTP/1.0\r\n\r\n", b"\x80\x2e\x01"])
def test_garbage_instead_of_a_handshake_costs_nothing(controller: SecureController, garbage: bytes) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", controller.port), timeout=PATIENT) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    assert controller.client(None).get("/healthz").is_success
    assert "Traceback" not in (controller.directory / "controller.log").read_text()


def test_encryption_is_authenticated(controller: SecureController) -> None:
    for ciphers, is_taken in (
        ("ECDHE+AESGCM", True),
        ("ECDHE+AES:!AESGCM:!AESCCM", False),
        ("AES256-GCM-SHA384", False),
    ):
        context = ssl.create_default_context(cadata=controller.authority)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        connection = socket.create_connection(("127.0.0.1", controller.port), timeout=PATIENT)
        with connection:
            try:
                with context.wrap_socket(connection, server_hostname="overlay-controller"):
                    taken = True
            except ssl.SSLError:
                taken = False
        assert taken is is_taken, ciphers


def test_an_older_tls_is_refused(controller: SecureController) -> None:
    context = ssl.create_default_context(cadata=controller.authority)
    context.set_ciphers("ALL:@SECLEVEL=0")  # with which OpenSSL itself would speak TLS 1.1
    taken = []
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_1):
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            context.minimum_version = context.maximum_version = version
        with socket.create_connection(("127.0.0.1", controller.port), timeout=PATIENT) as connection:
            try:
                with context.wrap_socket(connection, server_hostname="overlay-controller"):
                    taken.append(version)
            except (ssl.SSLError, ConnectionResetError):
                continue
    assert taken == [ssl.TLSVersion.TLSv1_2]


def test_without_descriptors_a_controller_goes_on_and_says_so_once(tmp_path: Path) -> None:
    with secure_controller(tmp_path) as controller, ExitStack() as flood:
        known = controller.client(controller.admin)
        assert known.get("/v1/networks").is_success
        held = len(list(Path(f"/proc/{controller.process.pid.number}/fd").iterdir()))
        soft, hard = resource.prlimit(controller.process.pid.number, resource.RLIMIT_NOFILE)
        for left in (100, 8):  # more than connections leave, and less
            resource.prlimit(controller.process.pid.number, resource.RLIMIT_NOFILE, (held + left, hard))
            for number in range(300):
                source = (f"127.0.0.{2 + number // 100}", 0)
                address = ("127.0.0.1", controller.port)
                flood.enter_context(socket.create_connection(address, timeout=PATIENT, source_address=source))
            assert known.get("/v1/networks").is_success
        log = (controller.directory / "controller.log").read_text()
        assert "connections not accepted" in log
        assert "Traceback" not in log
        assert log.count("connections not accepted") <= 2
        flood.close()
        resource.prlimit(controller.process.pid.number, resource.RLIMIT_NOFILE, (soft, hard))
        eventually(lambda: controller.client(None).get("/healthz").is_success, "strangers are answered again")
