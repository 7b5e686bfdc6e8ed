"""A client with the wrong token, or none, can do nothing to a real controller over TLS."""

import json
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from controller.api.http.permissions import NEEDS, HostPlace
from controller.identity.authority import Authority, utc
from overlayd.agent.commands.join import join
from overlayd.agent.controllers.trust import Trust
from overlayd.model.errors import AlreadyExists, InvalidValue, Unavailable
from overlayd.model.ids import HostId
from overlayd.wire.credentials import parse_join_token
from overlayd.wire.feed import InSync, decode_line
from tests.integration.api.test_authorisation import BODIES
from tests.support.controllers.api import BLUE, HOST, assert_problem
from tests.support.controllers.secure import SecureController, secure_controller
from tests.support.lab.processes import eventually

H1 = HostId("h1")


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureController]:
    with secure_controller(tmp_path_factory.mktemp("secure")) as running:
        assert running.client(running.admin).post("/v1/networks", json=BLUE).status_code == 201
        yield running


def refused(answer: httpx.Response) -> None:
    assert_problem(answer, 401, "unauthenticated", None)


def test_wrong_and_malformed_tokens_are_refused(controller: SecureController) -> None:
    kind, token_id, secret = controller.admin.split("_")
    for token in (
        f"{kind}_{token_id}_{secret[::-1]}",
        f"{kind}_{token_id[::-1]}_{secret}",
        f"{kind}_{token_id}",
        secret,
        controller.admin + controller.admin,
        "x" * 1000,
    ):
        answer = controller.client(token).get("/v1/networks")
        refused(answer)
        assert secret not in answer.text


def test_an_expired_token_is_refused(controller: SecureController) -> None:
    token = controller.make(kind="access", name="brief", role="viewer", ttl=1)
    client = controller.client(token)
    eventually(lambda: client.get("/v1/networks").status_code == 401, "the token has expired")
    assert "has expired" in client.get("/v1/networks").text


def test_a_revoked_token_is_refused(controller: SecureController) -> None:
    token = controller.make(kind="access", name="ci", role="viewer")
    client = controller.client(token)
    assert client.get("/v1/networks").status_code == 200
    assert controller.client(controller.admin).delete(f"/v1/tokens/{token.split('_')[1]}").status_code == 204
    refused(client.get("/v1/networks"))


def test_a_host_does_nothing_for_another(controller: SecureController) -> None:
    h1, h2 = controller.client(controller.joined("h1")), controller.client(controller.joined("h2"))
    assert h1.put("/v1/hosts/h1", json=HOST).status_code == 200
    block = h1.post("/v1/networks/blue/blocks", json={"host": "h1", "held": []}).json()["cidr"]
    for route, need in NEEDS.items():
        if need.host is None:
            continue
        method, _, path = route.partition(" ")
        place = path.replace("{id}", "h1").replace("{name}", "blue").replace("{cidr:path}", block)
        query = {"host": "h1", "instance": "i1"} if need.host is HostPlace.QUERY else None
        body = {**BODIES[route], "host": "h1"} if need.host is HostPlace.BODY else BODIES.get(route)
        answer = h2.request(method, place, json=body, params=query)
        assert_problem(answer, 403, "forbidden", None)
    assert [block] == [each["cidr"] for each in controller.client(controller.admin).get("/v1/blocks").json()["items"]]


def test_a_viewer_writes_nothing_and_an_operator_makes_no_tokens(controller: SecureController) -> None:
    viewer = controller.client(controller.make(kind="access", name="v", role="viewer"))
    operator = controller.client(controller.make(kind="access", name="o", role="operator"))
    assert_problem(viewer.post("/v1/networks", json=BLUE), 403, "forbidden", None)
    assert_problem(viewer.delete("/v1/networks/blue"), 403, "forbidden", None)
    body = {"kind": "access", "name": "mine", "role": "admin"}
    assert_problem(operator.post("/v1/tokens", json=body), 403, "forbidden", None)
    assert_problem(operator.get("/v1/tokens"), 403, "forbidden", None)
    assert_problem(operator.delete(f"/v1/tokens/{controller.admin.split('_')[1]}"), 403, "forbidden", None)


def test_a_join_token_joins_once_and_does_nothing_else(controller: SecureController) -> None:
    token = controller.make(kind="join")
    for text in (token, token.replace("ovj", "ovt"), "_".join(["ovt", *token.split("_")[1:3]])):
        refused(controller.client(text).get("/v1/networks"))
    api = controller.client(None)
    assert api.post("/v1/join", json={"token": token, "host": "once"}).status_code == 201
    refused(api.post("/v1/join", json={"token": token, "host": "twice"}))
    brief = controller.make(kind="join", ttl=1)
    admin = controller.client(controller.admin)

    def is_over() -> bool:
        found = admin.get(f"/v1/tokens/{brief.split('_')[1]}").json()
        return bool(found["expires"] <= time.time())

    eventually(is_over, "the join token has expired")
    refused(api.post("/v1/join", json={"token": brief, "host": "late"}))


def test_a_second_machine_with_a_hosts_id_cannot_join(controller: SecureController) -> None:
    first = join([controller.url], parse_join_token(controller.make(kind="join")), HostId("double"))
    with pytest.raises(AlreadyExists):
        join([controller.url], parse_join_token(controller.make(kind="join")), HostId("double"))
    assert controller.client(first.token.text).get("/v1/whoami").json()["host"] == "double"
    again = join([controller.url], parse_join_token(controller.make(kind="join", host="double")), HostId("double"))
    assert controller.client(again.token.text).get("/v1/whoami").status_code == 200
    refused(controller.client(first.token.text).get("/v1/whoami"))


def test_a_controller_with_another_fingerprint_gets_no_token(controller: SecureController) -> None:
    token = controller.make(kind="join")
    other = parse_join_token(token.replace(controller.fingerprint, controller.fingerprint[::-1]))
    with pytest.raises(InvalidValue, match="not trusted") as untrusted:
        join([controller.url], other, HostId("careful"))
    assert other.secret not in str(untrusted.value)
    assert join([controller.url], parse_join_token(token), HostId("careful")).authority == controller.authority


class _Impostor(BaseHTTPRequestHandler):
    """Shows the true authority's certificate, which is no secret, and takes whatever it gets."""

    authority = ""
    got: list[str] = []  # noqa: RUF012 - shared with the test

    def do_GET(self) -> None:
        self.got.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.authority.encode())

    def do_POST(self) -> None:
        self.got.append(self.path)
        self.send_response(500)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base has it
        pass


@contextmanager
def impostor(authority: str, directory: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve as a controller does, with a certificate of another authority; yield the URL and what was asked for."""
    own = Authority.create(utc(time.time())).issue(["localhost"], [], utc(time.time()))
    (directory / "own.pem").write_text(own.key + own.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "own.pem")
    got: list[str] = []
    handler = type("Handler", (_Impostor,), {"authority": authority, "got": got})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"https://127.0.0.1:{server.server_address[1]}", got
        finally:
            server.shutdown()
            serving.join()


def test_an_impostor_that_shows_the_true_authority_gets_no_token(controller: SecureController, tmp_path: Path) -> None:
    token = parse_join_token(controller.make(kind="join"))
    with impostor(controller.authority, tmp_path) as (url, got):
        with pytest.raises(Unavailable, match="certificate verify failed"):
            join([url], token, HostId("careful2"))
        assert got == ["/v1/ca"]


def test_nothing_is_joined_without_tls() -> None:
    token = parse_join_token("ovj_" + "0" * 12 + "_" + "0" * 40 + "_" + "0" * 64)
    with pytest.raises(InvalidValue, match="without TLS"):
        join(["http://127.0.0.1:1"], token, H1)


def raw(controller: SecureController, source: str = "127.0.0.1") -> ssl.SSLSocket:
    """Return a connection from an address over which anything may be sent."""
    connection = socket.create_connection(("127.0.0.1", controller.port), timeout=30, source_address=(source, 0))
    return Trust(controller.authority).context().wrap_socket(connection, server_hostname="overlay-controller")


def said(connection: ssl.SSLSocket) -> bytes:
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except (ConnectionError, ssl.SSLError):
        pass
    return received


_GET = b"GET /v1/networks HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer "
_POST = b"POST /v1/networks HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nTrailer: "


@pytest.mark.parametrize("size", [100_000, 50_000_000])
@pytest.mark.parametrize("beginning", [_GET, _POST])
def test_an_oversized_header_or_trailer_ends_the_connection(
    controller: SecureController, beginning: bytes, size: int
) -> None:
    with raw(controller) as connection:
        connection.sendall(beginning)
        try:
            for _ in range(size // 10_000):
                connection.sendall(b"x" * 10_000)
            answer = said(connection)
        except (ConnectionError, ssl.SSLError):
            answer = b""  # it did not wait for the end
        assert answer == b"" or b"HTTP/1.1 431 " in answer
    assert controller.client(controller.admin).get("/v1/networks").status_code == 200


def memory(controller: SecureController) -> int:
    """Return the bytes of memory that the controller has in use (proc(5))."""
    status = Path(f"/proc/{controller.process.pid.number}/status").read_text()
    (kilobytes,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(kilobytes) * 1024


def test_a_connection_costs_little_memory(controller: SecureController) -> None:
    before = memory(controller)
    with ExitStack() as stack:
        connections = [stack.enter_context(raw(controller, f"127.0.0.{1 + n % 10}")) for n in range(200)]
        connections[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: c\r\n\r\n")
        assert connections[-1].recv(12) == b"HTTP/1.1 200"
        assert memory(controller) - before < 200 * 128 * 1024


def test_a_header_of_some_kilobytes_is_just_a_wrong_token(controller: SecureController) -> None:
    refused(controller.client("x" * 30_000).get("/v1/networks"))
    client = controller.client(controller.admin)
    for _ in range(5):  # the heads of requests that share a connection are counted one by one
        assert client.get("/v1/networks", headers={"X-Padding": "x" * 30_000}).status_code == 200
    assert client.post("/v1/networks", json={"name": "x" * 200_000, "pools": []}).status_code == 422
    pieces = (b" " * 1000 for _ in range(500))  # and the body by itself
    assert client.post("/v1/networks", content=pieces).status_code == 422


def test_a_client_without_tls_gets_no_answer(controller: SecureController) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{controller.port}/v1/networks", trust_env=False)
    assert controller.client(controller.admin).get("/v1/networks").status_code == 200


def test_a_thousand_failed_attempts_are_answered_and_others_too(controller: SecureController) -> None:
    def attack(number: int) -> int:
        client = controller.client(f"ovt_{number:012x}_{'0' * 40}")
        return sum(client.get("/v1/networks").status_code == 401 for _ in range(50))

    good = controller.client(controller.admin)
    with ThreadPoolExecutor(8) as pool:
        attacks = [pool.submit(attack, number) for number in range(20)]
        served = 0
        while not all(each.done() for each in attacks):
            assert good.get("/v1/networks").status_code == 200
            served += 1
    assert sum(each.result() for each in attacks) == 1000
    assert served


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_feed_ends_with_its_token(controller: SecureController, how: str) -> None:
    host = f"feed-{how}"
    credential = controller.joined(host)
    own = controller.client(credential)
    body = {**HOST, "address": "192.0.2.77" if how == "revoked" else "192.0.2.78"}
    assert own.put(f"/v1/hosts/{host}", json=body).status_code == 200
    # The credential of a host does not expire; an admin may act as the host, with a token that does.
    brief = controller.make(kind="access", name="brief", role="admin", ttl=2)
    shown = credential if how == "revoked" else brief
    params = {"host": host, "instance": body["instance"]}
    with controller.client(shown).stream("GET", "/v1/feed", params=params) as stream:
        lines = stream.iter_lines()
        while not isinstance(decode_line(next(lines).encode()), InSync):
            pass
        if how == "revoked":
            revoked = controller.client(controller.admin).delete(f"/v1/tokens/{credential.split('_')[1]}")
            assert revoked.status_code == 204
        for _ in lines:  # and ends, unbroken
            pass
    refused(controller.client(shown).get("/v1/feed", params=params))


def test_no_secret_stands_anywhere_but_in_its_token(tmp_path: Path) -> None:
    with secure_controller(tmp_path / "c") as running:
        tokens = [
            running.admin,
            running.make(kind="access", name="anna", role="operator"),
            running.make(kind="join"),
            running.joined("h1"),
            "ovt_" + "5ec2" * 3 + "_" + "5ec2e7" * 6 + "abcd",
        ]
        for token in tokens:
            client = running.client(token)
            client.get("/v1/networks")
            client.post("/v1/networks", content=b"{")
            client.post("/v1/join", json={"token": token, "host": "h1"})
            client.get(f"/v1/tokens/{token}")
            client.get("/v1/nothing", params={"token": token})
        own = running.client(tokens[3])
        assert own.put("/v1/hosts/h1", json=HOST).status_code == 200
        for text in ("Bearer", f"Basic {tokens[0]}", f"Bearer {tokens[0]} {tokens[1]}"):
            refused(running.client(None).get("/v1/networks", headers={"Authorization": text}))
        assert running.process.stop(signal.SIGTERM) == 0
        written = running.process.output.encode()
        assert b"DEBUG" in written, "the libraries' loggers were on"
        assert written.count(b"callers refused") == 1, "not one line for each"
        kept = b"".join(path.read_bytes() for path in running.store.parent.glob("store.db*"))
    secrets = [token.split("_")[2].encode() for token in tokens]
    assert not [secret for secret in secrets if secret in written or secret in kept]
    assert tokens[1].split("_")[1].encode() in kept, "the id does"


def test_the_first_start_makes_a_token_and_later_ones_none(tmp_path: Path) -> None:
    with secure_controller(tmp_path / "c") as first:
        admin, authority = first.admin, first.authority
        assert (first.directory / "admin-token").stat().st_mode & 0o777 == 0o600
        assert first.store.stat().st_mode & 0o077 == 0
        first.process.stop()
    with secure_controller(tmp_path / "c") as second:
        assert (second.admin, second.authority) == (admin, authority)
        assert second.client(admin).get("/v1/whoami").json()["role"] == "admin"
        made = [json.loads(line) for line in second.process.output.splitlines() if "made an admin token" in line]
        assert [event["file"] for event in made] == [str(second.directory / "admin-token")]
