"""The stores and controllers that benchmarks measure."""

import asyncio
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import httpx

from controller.clock import SystemClock
from controller.overlay import Overlay
from controller.store.embedded import EmbeddedStore
from controller.store.etcd.cluster import Certificates, parse_url
from controller.store.etcd.store import EtcdStore
from controller.store.port import Store
from tests.support.controllers.etcd import EtcdCluster
from tests.support.lab.processes import Process, eventually

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
    """A controller in a process of its own, without TLS."""

    def __init__(self, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
            self.port: int = listening.getsockname()[1]
            command = [sys.executable, "-c", "from controller.main import main; main()", "run", "--insecure"]
            options = ["--store", str(directory / "store.db"), "--listen", f"fd:{listening.fileno()}"]
            self.process = Process(
                ["prlimit", "--nofile=16384:16384", *command, *options],
                directory / "controller.log",
                pass_fds=[listening.fileno()],
            )
        eventually(self._is_ready, "the controller is ready", timeout=30)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _is_ready(self) -> bool:
        self.process.check()
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def memory(self) -> float:
        """Return the proportional memory of the process in megabytes (proc(5), smaps_rollup: Pss)."""
        for line in Path(f"/proc/{self.process.pid.number}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
        raise LookupError("smaps_rollup has no Pss")


@contextmanager
def controller_process() -> Iterator[ControllerProcess]:
    with tempfile.TemporaryDirectory(prefix="overlay-bench-") as directory:
        controller = ControllerProcess(Path(directory))
        try:
            yield controller
        finally:
            controller.process.kill()


@contextmanager
def readers(url: str, hosts: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Read the feeds of these hosts in a process of its own (`bench.feed_reader`)."""
    command = ["prlimit", "--nofile=16384:16384", sys.executable, "-m", "bench.feed_reader", url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as reader:
        assert reader.stdin  # noqa: S101 - it is a pipe
        reader.stdin.write(" ".join(hosts) + "\n")
        try:
            yield reader
        finally:
            reader.kill()
