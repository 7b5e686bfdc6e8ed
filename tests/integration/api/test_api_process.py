"""The controller as a process: its start, its feeds over real connections, and its end."""

import asyncio
import json
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import version
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest
from starlette.types import Message

from controller.api.http.line_response import LineResponse
from controller.api.routes.feed import opened_feed
from controller.clock import SystemClock
from controller.store.port import PutKey, Transaction
from overlayd.wire.feed import FEED_VERSION, Bookmark, Delta, FeedMessage, InSync, Snapshot, decode_line
from tests.support.controllers.lone_controller import COMMAND, controller
from tests.support.controllers.overlays import H1, controllers, make_host, store_at
from tests.support.lab.processes import eventually

HOST = {"name": "rack1-07", "address": "192.0.2.1", "instance": "i1"}
FEED = {"host": "h1", "instance": "i1", "version": str(FEED_VERSION)}


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process and those that it starts open some thousand files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def said(lines: Iterator[str], number: int) -> list[FeedMessage]:
    """Return the next messages of a feed, without the bookmarks that only pass the time."""
    messages = (decode_line(line.encode()) for line in lines)
    kept = (message for message in messages if not isinstance(message, Bookmark))
    return [next(kept) for _ in range(number)]


def test_a_feed_over_a_connection_that_breaks_and_comes_back(tmp_path: Path) -> None:
    with controller(tmp_path / "store.db") as running:
        api = running.api
        api.put("/v1/hosts/h1", json=HOST)
        with api.stream("GET", "/v1/feed", params=FEED) as stream:
            assert stream.headers["content-type"] == "application/x-ndjson"
            lines = stream.iter_lines()
            assert [type(message) for message in said(lines, 2)] == [Snapshot, InSync]
            eventually(running.is_connected, "the host is connected")
            api.post("/v1/networks", json={"name": "blue", "pools": [{"range": "10.32.0.0/16"}]})
            block = api.post("/v1/networks/blue/blocks", json={"host": "h1", "held": []}).json()
            (delta,) = said(lines, 1)
            assert isinstance(delta, Delta)
            assert (delta.revision, len(delta.puts)) == (block["revision"], 2)
        eventually(lambda: not running.is_connected(), "the host is not connected")
        moved = api.put("/v1/hosts/h1", json={**HOST, "name": "moved"}).json()
        with api.stream("GET", "/v1/feed", params={**FEED, "after": delta.revision}) as stream:
            missed, in_sync = said(stream.iter_lines(), 2)
            assert isinstance(missed, Delta)
            assert len(missed.puts) == 1
            assert isinstance(in_sync, InSync)
            assert in_sync.revision == moved["revision"]


def test_reports_become_convergence(tmp_path: Path) -> None:
    with controller(tmp_path / "store.db") as running:
        api = running.api
        at = api.put("/v1/hosts/h1", json=HOST).json()["revision"]
        assert api.get("/v1/convergence").json()["hosts"][0]["lag"] == "not connected"
        with api.stream("GET", "/v1/feed", params=FEED) as stream:
            lines = stream.iter_lines()
            said(lines, 2)
            report = {"instance": "i1", "revision": at, "problems": [{"object": "x" * 900, "message": "y"}] * 999}
            assert api.post("/v1/hosts/h1/report", json=report).status_code == 200
            eventually(lambda: api.get("/v1/hosts/h1").json()["applied"] == at, "the report is known")
            assert len(api.get("/v1/hosts/h1").json()["problems"]) == 100
            assert api.get("/v1/convergence").json()["in_force"] == 0
            api.post("/v1/hosts/h1/report", json={"instance": "i1", "revision": at})
            eventually(lambda: api.get("/v1/convergence").json()["in_force"] == 1, "the revision is in force")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_feeds_in_order_and_loses_nothing(tmp_path: Path, number: signal.Signals) -> None:
    store = tmp_path / "store.db"
    with controller(store) as running:
        assert running.notified().startswith("READY=1\nSTATUS=serving at ")
        before = running.api.put("/v1/hosts/h1", json=HOST).json()
        with running.api.stream("GET", "/v1/feed", params=FEED) as stream:
            lines = stream.iter_lines()
            said(lines, 2)
            eventually(running.is_connected, "the host is connected")
            running.process.send_signal(number)
            assert all(isinstance(decode_line(line.encode()), Bookmark) for line in lines)  # and ends, unbroken
        assert running.notified() == "STOPPING=1"
        assert running.process.wait(30) == 0
        assert running.process.stderr is not None
        events = [json.loads(line) for line in running.process.stderr]
        assert [event["event"] for event in events] == ["serving"]
    with controller(store) as running:
        after = running.api.get("/v1/hosts/h1").json()
        assert after == {**after, **{key: before[key] for key in ("id", "number", "name", "address", "revision")}}
        assert after["connected"] is False


def test_a_request_that_a_stop_interrupts_is_answered_and_told_of(tmp_path: Path) -> None:
    with controller(tmp_path / "store.db") as running:
        assert running.notified().startswith("READY=1\n")
        with socket.create_connection((running.api.base_url.host, running.api.base_url.port or 0)) as halfway:
            head = b"POST /v1/networks HTTP/1.1\r\nHost: c\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
            halfway.sendall(head)
            assert halfway.recv(100).startswith(b"HTTP/1.1 100 ")
            running.process.send_signal(signal.SIGTERM)
            assert halfway.recv(12) == b"HTTP/1.1 503"
        assert running.process.wait(30) == 0
        assert running.process.stderr is not None
        events = [json.loads(line) for line in running.process.stderr]
    assert [event["event"] for event in events] == ["serving", "interrupted by the stop"]
    assert (events[1]["level"], events[1]["method"], events[1]["path"]) == ("warning", "POST", "/v1/networks")


def test_a_host_of_a_killed_controller_resumes_with_the_next_one(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    with controller(store) as running:
        at = running.api.put("/v1/hosts/h1", json=HOST).json()["revision"]
        with running.api.stream("GET", "/v1/feed", params=FEED) as stream:
            said(stream.iter_lines(), 2)
            running.process.kill()
    with (
        controller(store) as running,
        running.api.stream("GET", "/v1/feed", params={**FEED, "after": at}) as stream,
    ):
        [in_sync] = said(stream.iter_lines(), 1)
        assert isinstance(in_sync, InSync)
        assert in_sync.revision == at


def refused(*arguments: str) -> str:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    return str(json.loads(line)["reason"])


def test_a_start_that_cannot_be_is_refused_in_one_line(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    assert refused("run", "--listen", "nowhere") == "--listen: 'nowhere' is neither HOST:PORT nor fd:N"
    missing = str(tmp_path / "missing" / "store.db")
    assert refused("run", "--store", missing) == f"--store: there is no directory {tmp_path}/missing"
    settings = tmp_path / "controller.toml"
    settings.write_text(f'store = "{store}"\nlisten = "nohost.invalid:7471"\n')
    nowhere = refused("run", "--config", str(settings))
    assert nowhere.startswith(f"{settings}:2: listen: cannot listen at nohost.invalid:7471: ")
    with controller(store) as running, socket.create_server(("127.0.0.1", 0)) as taken:
        assert running.notified().startswith("READY=1\nSTATUS=serving at ")
        assert "in use by another controller" in refused("run", "--store", str(store), "--listen", "127.0.0.1:0")
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "Address already in use" in refused("run", "--store", str(tmp_path / "other.db"), "--listen", address)


def test_a_store_that_a_newer_controller_wrote_stops_it_with_the_key(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    newer = Transaction((), (PutKey("/overlayd/v1/hosts/h1", b'{"v": 99}'),))

    async def write() -> None:
        async with store_at(store, SystemClock()) as opened:
            await opened.commit(newer)

    asyncio.run(write())
    assert "/overlayd/v1/hosts/h1" in refused("run", "--store", str(store), "--listen", "127.0.0.1:0")
    assert "version 99" in refused("run", "--store", str(store), "--listen", "127.0.0.1:0")


def test_the_version_is_printed() -> None:
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{version('overlayd')}\n"


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time can be moved on."""

    skipped = 0.0

    def time(self) -> float:
        return super().time() + self.skipped


def test_a_reader_that_takes_nothing_for_ten_seconds_loses_its_feed(tmp_path: Path) -> None:
    async def serve_nobody() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SkippingLoop)
        blocked = asyncio.Event()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body":
                blocked.set()
                await asyncio.Event().wait()

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async with controllers(tmp_path, 1) as (_, [overlay]):
            await make_host(overlay, 1)
            response = LineResponse(opened_feed(overlay.feeds, H1, "i1", None, FEED_VERSION))
            serving = asyncio.create_task(response({"type": "http"}, receive, send))
            await blocked.wait()
            loop.skipped = 9.0
            await asyncio.wait([serving], timeout=0)
            assert not serving.done()
            loop.skipped = 10.1
            await serving

    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        runner.run(serve_nobody())


@pytest.mark.usefixtures("many_files")
def test_a_thousand_readers_that_do_not_read_harm_nobody(tmp_path: Path) -> None:
    with controller(tmp_path / "store.db") as running, ExitStack() as stack:
        api = running.api
        networks = [{"name": f"n{number}", "pools": [{"range": "10.0.0.0/8"}]} for number in range(60)]
        api.post("/v1/networks", json=networks[0])
        for _ in range(1000):
            stream = stack.enter_context(socket.create_connection((api.base_url.host, api.base_url.port or 0)))
            stream.sendall(b"GET /v1/watch HTTP/1.1\r\nHost: controller\r\n\r\n")
            assert stream.recv(15) == b"HTTP/1.1 200 OK"
        before = running.memory()
        for network in networks[1:]:
            assert api.post("/v1/networks", json=network).status_code == 201
        with api.stream("GET", "/v1/watch", params={"kind": "network"}) as watching:
            # Until each feed has all: those made last may come as changes after a snapshot that others got, too.
            unheard = {str(network["name"]) for network in networks}
            for line in map(json.loads, watching.iter_lines()):
                unheard.discard(line.get("object", {}).get("name"))
                if not unheard:
                    break
        assert api.get("/healthz").is_success
        assert running.memory() - before < 200 * 2**20


@pytest.mark.parametrize("number", range(5))
def test_a_request_whose_client_has_gone_while_the_controller_was_frozen_changes_nothing(
    tmp_path: Path, number: int
) -> None:
    with controller(tmp_path / "store.db") as running:
        api = running.api
        before = api.put("/v1/hosts/h1", json=HOST).json()["revision"]
        body = json.dumps({"name": "late", "pools": [{"range": "10.0.0.0/8"}]}).encode()
        head = f"POST /v1/networks HTTP/1.1\r\nHost: c\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        address = (api.base_url.host, api.base_url.port or 0)
        with ExitStack() as waiting:
            kept = waiting.enter_context(socket.create_connection(address))
            running.process.send_signal(signal.SIGSTOP)
            with socket.create_connection(address) as leaving:
                leaving.sendall(f"{head}\r\n\r\n".encode() + body)
            for path in (f"/v1/networks/late-{number}", "/v1/hosts/h1"):
                with socket.create_connection(address) as leaving:
                    leaving.sendall(f"DELETE {path} HTTP/1.1\r\nHost: c\r\n\r\n".encode())
            running.process.send_signal(signal.SIGCONT)
            kept.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert kept.recv(12) == b"HTTP/1.1 200"
        after = api.get("/v1/networks").json()
        assert (after["items"], after["revision"]) == ([], before)
        assert api.get("/v1/hosts/h1").is_success


def fill(api: httpx.Client, hosts: int, endpoints: int) -> None:
    """Give network n0 so many hosts with so many endpoints each."""
    api.post("/v1/networks", json={"name": "n0", "pools": [{"range": "10.0.0.0/8", "block_length": 20}]})
    for host in range(1, hosts + 1):
        api.put(f"/v1/hosts/h{host}", json={**HOST, "address": f"192.0.2.{host}"}).raise_for_status()
        block = ip_network(api.post("/v1/networks/n0/blocks", json={"host": f"h{host}"}).json()["cidr"])
        body = [
            {
                "network": "n0",
                "container_id": f"c{host}-{number:060}",
                "interface": "eth0",
                "addresses": [str(block[number + 2])],
                "mac": f"02:00:00:{host:02x}:{number // 256:02x}:{number % 256:02x}",
                "sandbox": f"/run/netns/c{host}-{number}",
            }
            for number in range(endpoints)
        ]
        api.put(f"/v1/hosts/h{host}/endpoints", json={"endpoints": body}).raise_for_status()


@pytest.mark.usefixtures("many_files")
def test_readers_of_everything_who_do_not_read_cost_little_memory(tmp_path: Path) -> None:
    with controller(tmp_path / "store.db") as running, ExitStack() as stack:
        fill(running.api, 2, 3000)  # two megabytes for each reader
        before = running.memory()
        for query in ("", "?after=0"):
            for _ in range(50):
                stream = stack.enter_context(socket.socket())
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                stream.connect((running.api.base_url.host, running.api.base_url.port or 0))
                stream.sendall(b"GET /v1/watch%s HTTP/1.1\r\nHost: controller\r\n\r\n" % query.encode())
                assert stream.recv(15) == b"HTTP/1.1 200 OK"
        assert running.api.get("/healthz").is_success
        assert running.api.get("/v1/networks/n0").is_success
        lines = 0
        with running.api.stream("GET", "/v1/watch", params={"kind": "endpoint"}) as watching:
            for line in watching.iter_lines():
                if json.loads(line)["type"] == "in-sync":
                    break
                lines += 1
        assert lines == 6_000
        assert running.memory() - before < 60 * 2**20
