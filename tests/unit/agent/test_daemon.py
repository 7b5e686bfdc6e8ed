"""The rooms of an agent joined: what runs, what it says to its supervisor, and the order in which it stops."""

import asyncio
import errno
import gc
import json
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from overlayd.agent import daemon
from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from overlayd.agent.runtime.boot_mark import boot_id
from overlayd.agent.runtime.signals import Changes
from overlayd.agent.settings import Settings
from overlayd.dataplane.items import NamespaceRef
from overlayd.model.errors import InUse
from overlayd.model.ids import HostId, Revision
from overlayd.service.systemd_notify import ServiceManager
from overlayd.wire import records
from overlayd.wire.cni.requests import Command
from overlayd.wire.feed import Delta, InSync, Snapshot
from overlayd.wire.fields import Json
from tests.support.agents.agents import frame
from tests.support.agents.loopback import Answer, Request, Server, answer, controller
from tests.support.controllers import clusters
from tests.support.kernel.failing_calls import Fault, impose
from tests.support.kernel.fake_kernel import FakeKernel

pytestmark = pytest.mark.anyio

SANDBOX = "/run/netns/web"
NETWORK, BLOCK = clusters.network(), clusters.block(1, "10.32.0.0/24")
BLOCKS = "/v1/networks/blue/blocks"


class Kernel(FakeKernel):
    """Says whether it was closed, and can surprise whoever asks what has changed."""

    is_closed = False
    surprise: Exception | None = None

    def close(self) -> None:
        self.is_closed = True

    def changed(self) -> frozenset[NamespaceRef]:
        if self.surprise:
            raise self.surprise
        return super().changed()


class Crowded(Kernel):
    """Has no room for another thread from the first thing on that an agent asks it."""

    def leftovers(self) -> frozenset[NamespaceRef]:
        impose(Fault("clone3", errno.EAGAIN))
        return super().leftovers()


class Process:
    """An agent that runs in this process, as its supervisor sees it."""

    def __init__(self, directory: Path, server: Server, kernel: Kernel) -> None:
        self.kernel = kernel
        self.kernel.add_sandbox(SANDBOX)
        self.stop = asyncio.Event()
        self.settings = Settings(
            (server.url,),
            "node-1",
            vtep=clusters.host(1).address,
            state_dir=directory / "state",
            run_dir=directory / "run",
            resync=3600,
        )
        self.settings.state_dir.mkdir(exist_ok=True)
        (self.settings.state_dir / "host-id").write_text(clusters.HERE)
        self._place = directory / "notify"
        self._said = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._said.bind(str(self._place))
        manager = ServiceManager(str(self._place))
        self.task = asyncio.create_task(daemon.serve(self.settings, manager, lambda: self.kernel, self.stop))

    async def said(self, state: str) -> None:
        """Return when the agent has sent its service manager a message that begins so; raise what ended it before."""
        saying = asyncio.create_task(self._hear(state))
        await asyncio.wait([saying, self.task], return_when=asyncio.FIRST_COMPLETED)
        if not saying.done():
            saying.cancel()
            await self.task
        await saying

    async def _hear(self, state: str) -> None:
        while True:
            datagram = await asyncio.get_running_loop().sock_recv(self._said, 4096)
            if any(line.startswith(state) for line in datagram.decode().splitlines()):
                return

    async def asked(self, path: Path, request: bytes) -> bytes:
        """Return the answer of one of the sockets."""
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(request)
        writer.write_eof()
        found = await reader.read()
        writer.close()
        return found

    def close(self) -> None:
        self._said.close()
        self._place.unlink()


@asynccontextmanager
async def running(directory: Path, server: Server, kernel: Kernel | None = None) -> AsyncIterator[Process]:
    """Run an agent until the end of the block; it is up when the block begins."""
    process = Process(directory, server, kernel or Kernel())
    try:
        await process.said("READY=1")
        yield process
    finally:
        process.stop.set()
        await asyncio.wait([process.task])
        process.close()


async def status_of(process: Process) -> dict[str, Json]:
    found: dict[str, Json] = json.loads(await process.asked(process.settings.control_socket, b'{"command": "status"}'))
    return found


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - a file sets no event
        await asyncio.sleep(0.01)


def has_copies(state: Path, *, is_so: bool) -> bool:
    return any((state / "attachments").glob("*.json")) is is_so


def serving(server: Server, block: Callable[[], Answer | None]) -> None:
    """Answer as a controller does; `block` answers who asks for one."""
    registered = server.respond

    def respond(request: Request) -> Answer | None:
        if request.path == BLOCKS:
            return block()
        if request.path.startswith(f"/v1/hosts/{clusters.HERE}/"):
            return answer({})  # endpoints and reports
        return registered(request)

    server.respond = respond


async def test_an_agent_that_is_up_answers_and_one_that_stops_leaves_the_kernel(tmp_path: Path) -> None:
    async with controller() as server:
        serving(server, lambda: None)
        async with running(tmp_path, server) as process:
            assert (await status_of(process))["networks"] == []
            sockets = (process.settings.cni_socket, process.settings.control_socket)
            assert all(path.is_socket() for path in sockets)
            process.stop.set()
            await process.said("STOPPING=1")
            await process.task
            assert process.kernel.is_closed
            assert not any(path.exists() for path in sockets)
        async with running(tmp_path, server):
            pass  # the locks are free


@pytest.mark.parametrize(("mark", "is_kept"), [(None, True), (boot_id(), True), ("another boot", False), ("", False)])
async def test_what_an_earlier_boot_left_in_a_directory_that_is_no_tmpfs_counts_for_nothing(
    tmp_path: Path, mark: str | None, *, is_kept: bool
) -> None:
    run_dir, web = tmp_path / "run", replace(clusters.endpoint(1, "web", "10.32.0.2"), host=HostId(clusters.HERE))
    AttachmentRecords(run_dir / "attachments").put(Attachment(web, (0, 1)))
    (run_dir / "tables").mkdir()
    (run_dir / "software-checksums").touch()
    (run_dir / "notes").write_text("of the administrator")
    if mark is not None:
        (run_dir / "boot-id").write_text(mark)
    async with controller() as server:
        serving(server, lambda: None)
        async with running(tmp_path, server) as process:
            assert (await status_of(process))["software_checksums"] is is_kept
            assert bool(list((run_dir / "attachments").glob("*.json"))) is is_kept
            assert (run_dir / "tables").exists() is is_kept
            assert (run_dir / "notes").exists()
            (run_dir / "boot-id").unlink()
            await until((run_dir / "boot-id").exists)
            assert (run_dir / "boot-id").read_text() == boot_id()


async def test_there_is_one_agent_on_a_host(tmp_path: Path) -> None:
    async with controller() as server:
        serving(server, lambda: None)
        async with running(tmp_path, server) as process:
            second = Kernel()
            with pytest.raises(InUse):
                await daemon.serve(process.settings, ServiceManager(), lambda: second, asyncio.Event())
            assert (await status_of(process))["networks"] == [], "the first one goes on"


async def test_an_unexpected_error_of_one_actor_ends_all(tmp_path: Path) -> None:
    async with controller() as server:
        serving(server, lambda: None)
        async with running(tmp_path, server) as process:
            process.kernel.surprise = ZeroDivisionError("a defect")
            process.kernel.set_underlay(IPv4Address("192.0.2.99"), None)  # a notification
            await asyncio.wait([process.task])
            error = process.task.exception()
            assert isinstance(error, ExceptionGroup)
            assert error.subgroup(ZeroDivisionError)
            assert process.kernel.is_closed
            assert not process.settings.cni_socket.exists()


def test_an_agent_goes_on_where_no_further_thread_can_be_started(tmp_path: Path) -> None:
    state = tmp_path / "state"

    async def go_on() -> None:
        async with controller() as server:
            serving(server, lambda: answer(records.encode(BLOCK)))
            async with running(tmp_path, server, Crowded()) as process:
                stream = await server.feeds.get()
                known = (clusters.host(1), NETWORK, BLOCK)
                await stream.send(Snapshot(Revision(2), known), InSync(Revision(2)))
                for command in (Command.ADD, Command.DEL):  # each is copied, and what is deleted is reaped, by threads
                    answered = await process.asked(process.settings.cni_socket, frame(command, "web", SANDBOX))
                    assert answered.startswith(b"0"), answered
                    await until(partial(has_copies, state, is_so=command is Command.ADD))
                await until((state / "cluster.cache").exists)
                assert not process.task.done()

    def run() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(asyncio.wait_for(go_on(), 60))
        loop.close()

    with ThreadPoolExecutor(1) as executor:
        executor.submit(run).result()


async def test_a_request_under_way_ends_before_what_it_needs_stops(tmp_path: Path) -> None:
    """An ADD waits for a block that only the feed brings: the feed goes on until the ADD is answered."""
    asked = asyncio.Event()

    def block() -> Answer:
        asked.set()
        return answer(records.encode(BLOCK))

    async with controller() as server:
        serving(server, block)
        async with running(tmp_path, server) as process:
            stream = await server.feeds.get()
            await stream.send(Snapshot(Revision(1), (clusters.host(1),)), InSync(Revision(1)))
            adding = asyncio.create_task(process.asked(process.settings.cni_socket, frame(Command.ADD, "web", SANDBOX)))
            await asked.wait()
            process.stop.set()
            await process.said("STOPPING=1")
            await stream.send(Delta(Revision(2), (NETWORK, BLOCK), ()))
            assert (await adding).startswith(b"0"), "it is attached"
            await process.task
            (recorded,) = (process.settings.run_dir / "attachments").glob("*.json")
            assert '"web"' in recorded.read_text()


async def test_garbage_is_collected_from_the_first_look_at_everything_on() -> None:
    reports, thresholds = Changes(), gc.get_threshold()
    try:
        daemon.collect_later()
        collecting = asyncio.create_task(daemon.collect_seldom(reports))
        await asyncio.sleep(0)
        assert not gc.isenabled()
        reports.set()
        await collecting
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        gc.enable()
