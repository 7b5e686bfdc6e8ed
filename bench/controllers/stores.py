"""The stores and controllers that benchmarks measure."""

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.controllers.http_connection import Authority
from controller.clock import SystemClock
from controller.overlay import Overlay
from controller.store.embedded import EmbeddedStore
from controller.store.etcd.cluster import Certificates, parse_url
from controller.store.etcd.store import EtcdStore
from controller.store.port import Store
from tests.support.controllers.etcd import EtcdCluster
from tests.support.lab.lab import CLEAN, COMMANDS
from tests.support.lab.processes import Process, eventually

_MANY_FILES = ["prlimit", "--nofile=16384:16384"]
"""The controller's service may open more; the agents of a thousand hosts are in one process."""

STORES = ("embedded", "etcd", "etcd cluster")


@asynccontextmanager
async def running(store: Store) -> AsyncIterator[Store]:
    task = asyncio.create_task(store.run(), name="store")
    try:
        yield store
    finally:
        task.cancel()
        await asyncio.wait([task])
        await store.close()


def etcd_store(url: str) -> EtcdStore:
    return EtcdStore(parse_url(url, Certificates(), None, "--store"), SystemClock())


@asynccontextmanager
async def store_of(kind: str) -> AsyncIterator[Store]:
    """Open a new store: embedded, on one etcd, or on three."""
    async with AsyncExitStack() as stack:
        if kind == "embedded":
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="overlay-bench-")))
            store: Store = EmbeddedStore.open(directory / "store.db", SystemClock())
        else:
            store = etcd_store(stack.enter_context(EtcdCluster(1 if kind == "etcd" else 3)).url)
        yield await stack.enter_async_context(running(store))


@asynccontextmanager
async def overlay_on(store: Store) -> AsyncIterator[Overlay]:
    overlay = Overlay(store, SystemClock(), "bench")
    await overlay.load()
    task = asyncio.create_task(overlay.run(), name="overlay")
    try:
        yield overlay
    finally:
        task.cancel()
        await asyncio.wait([task])


class ControllerProcess:
    """A controller in a process of its own, started as systemd does, with TLS and tokens."""

    def __init__(self, directory: Path) -> None:
        self._authority, self._token = directory / "ca.pem", directory / "admin-token"
        with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
            self.port: int = listening.getsockname()[1]
            options = ["--store", str(directory / "store.db"), "--listen", f"fd:{listening.fileno()}"]
            self.process = Process(
                [*_MANY_FILES, str(COMMANDS / "overlay-controller"), "run", *options],
                directory / "controller.log",
                pass_fds=[listening.fileno()],
                env=CLEAN,
            )
        eventually(self._is_ready, "the controller is ready", timeout=30)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def _is_ready(self) -> bool:
        self.process.check()
        if not (self._authority.exists() and self._token.exists()):
            return False
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False, verify=self._context()).is_success
        except httpx.TransportError:
            return False

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self._authority))

    def administrator(self) -> httpx.AsyncClient:
        """Return a client for what is prepared, and for what is not measured."""
        return httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self._token.read_text().strip()}"},
            verify=self._context(),
            limits=httpx.Limits(max_connections=32),
            timeout=60,
            trust_env=False,
        )

    def authority(self) -> Authority:
        """Return the address and credentials that a connection to it needs."""
        return Authority.of(self.words)

    @property
    def words(self) -> list[str]:
        """What names it on the command line of a program of the benchmarks."""
        return [str(self.port), str(self._authority), str(self._token)]


@contextmanager
def controller_process() -> Iterator[ControllerProcess]:
    with tempfile.TemporaryDirectory(prefix="overlay-bench-") as directory:
        controller = ControllerProcess(Path(directory))
        try:
            yield controller
        finally:
            controller.process.kill()


class Helper:
    """A program of the benchmarks that answers each line with a line of JSON."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    async def ask(self, line: str) -> Mapping[str, Any]:
        self.tell(line)
        return await self.answer()

    def tell(self, line: str) -> None:
        assert self._process.stdin  # noqa: S101 - it is a pipe
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    async def answer(self) -> Mapping[str, Any]:
        """Return the next answer; raise `ChildProcessError` when the program has ended."""
        assert self._process.stdout  # noqa: S101 - it is a pipe
        line = await asyncio.to_thread(self._process.stdout.readline)
        if not line:
            raise ChildProcessError("a program of the benchmark ended: its errors are above")
        found: Mapping[str, Any] = json.loads(line)
        return found


@contextmanager
def helper(program: str, controller: ControllerProcess) -> Iterator[Helper]:
    """Run a program of the benchmarks that talks to this controller."""
    command = [*_MANY_FILES, sys.executable, "-m", f"bench.controllers.{program}", *controller.words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Helper(process)
        finally:
            process.kill()
