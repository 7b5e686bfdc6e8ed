"""Joins the rooms of the agent; its life from start to stop."""

import asyncio
import contextlib
import faulthandler
import gc
import os
import signal
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import structlog

import overlayd.agent.attach.wiring as attaching
import overlayd.agent.cni.wiring as cni
import overlayd.agent.controllers.wiring as controlling
import overlayd.agent.docker.wiring as docker
import overlayd.agent.holdings.wiring as holding
import overlayd.agent.netavark.wiring as netavark
import overlayd.agent.probes.wiring as probing
import overlayd.agent.reconcile.wiring as reconciling
import overlayd.agent.records.wiring as recording
from overlayd.agent.control.server import Control
from overlayd.agent.control.supervisor_status import show_status
from overlayd.agent.controllers.own_address import OwnAddress
from overlayd.agent.docker.http_messages import read_request
from overlayd.agent.docker.wiring import DockerParts
from overlayd.agent.netavark.users import Users, forget_places
from overlayd.agent.netns.door import NamespaceDoor
from overlayd.agent.run_directory import RunDirectory
from overlayd.agent.runtime.actors import Actors, started, stopped
from overlayd.agent.runtime.boot_mark import BootMark, boot_id
from overlayd.agent.runtime.dns_lookups import Loop
from overlayd.agent.runtime.instance_lock import Lock, held
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.agent.runtime.signals import Changes
from overlayd.agent.runtime.unix_server import UnixServer
from overlayd.agent.settings import Settings
from overlayd.kernel.descriptor_limit import raise_descriptor_limit
from overlayd.kernel.linux import LinuxKernel
from overlayd.kernel.port import Kernel
from overlayd.service.ready_threads import ready_threads
from overlayd.service.systemd_notify import ServiceManager

_log = structlog.get_logger(__name__)

GRACE = 3.0
"""Seconds that requests under way have to end by themselves when the agent stops; then what they made is undone."""


_WORKERS = 6
"""Threads for what would hold up the event loop: one for each actor that has such work (`asyncio.to_thread`), so that
none waits for the slow disk of another one."""


@dataclass(frozen=True, slots=True)
class Agent:
    """The running tasks: servers stop before actors, which requests under way still need."""

    servers: Actors
    actors: Actors


@dataclass(frozen=True, slots=True)
class Kept:
    """What an agent has in its directories before anything else: its locks, and the mark of this boot."""

    locks: Collection[Lock]
    mark: BootMark


_LOADED = 60.0
"""Seconds after a start at which the agent has loaded its cluster, whatever has become of it."""


def collect_later() -> None:
    """Collect no garbage in cycles until `collect_seldom` has the cluster, and less often than by default after that.

    A cluster is tens of thousands of objects that stay: scanning them all the time takes longer than the work itself.
    The youngest are few, as a change of a network waits for the scan: a millisecond or two.
    """
    gc.disable()
    gc.set_threshold(10_000, 100, 20)


async def collect_seldom(reports: Changes) -> None:
    """Collect garbage from the end of the first look at everything on; what is there by then is never scanned again."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LOADED):
            await reports.wait(0)
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def start(settings: Settings) -> None:
    """Run the agent in this process until SIGTERM or SIGINT; raises as `serve` does."""
    faulthandler.enable()  # the watchdog's SIGABRT leaves in the journal where the process was
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(run(settings, ServiceManager.of(os.environ, os.getpid())))


async def run(settings: Settings, supervisor: ServiceManager) -> None:
    """Do as `start`, in an event loop that runs."""
    collect_later()
    raise_descriptor_limit()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(settings, supervisor, lambda: LinuxKernel(settings.run_dir / "tables"), stop)


async def serve(
    settings: Settings, supervisor: ServiceManager, open_kernel: Callable[[], Kernel], stop: asyncio.Event
) -> None:
    """Run the agent until it is stopped. Stopping leaves the kernel as it is: traffic goes on.

    The watchdog of the supervisor is fed while the event loop runs and no call holds the kernel lock too long.

    Raises:
        InUse: another agent runs on this host.
        InvalidValue: the host's id, a record or the cache is damaged; names the file.
        OSError: a directory cannot be used.
        Unavailable: the system has no room for a thread.
        ExceptionGroup: something unexpected happened; the process ends, and its supervisor starts it again.
    """
    asyncio.get_running_loop().set_default_executor(ready_threads(_WORKERS, "worker"))
    async with AsyncExitStack() as closing:
        locks = closing.enter_context(held(settings.state_dir, settings.run_dir))
        mark = BootMark(settings.run_dir, boot_id())
        mark.enter()
        agent = build(settings, supervisor, Kept(locks, mark), open_kernel, closing)
        async with asyncio.TaskGroup() as tasks:
            actors, servers = started(tasks, agent.actors), started(tasks, agent.servers)
            supervisor.tell("READY=1")
            _log.info("agent is up", name=settings.name)
            await stop.wait()
            supervisor.tell("STOPPING=1", "STATUS=traffic goes on without the agent")
            await stopped(servers)
            await stopped(actors)


def build(
    settings: Settings,
    supervisor: ServiceManager,
    kept: Kept,
    open_kernel: Callable[[], Kernel],
    closing: AsyncExitStack,
) -> Agent:
    """Join the rooms, restore lost records and open the sockets; `closing` closes what is opened."""
    run_dir, state_dir, resync = settings.run_dir, settings.state_dir, settings.resync
    recorded = recording.build(run_dir, state_dir)
    records = recorded.attachments
    cluster = controlling.build(
        settings.controllers, settings.credential, state_dir, lambda: records.endpoints, closing
    )
    feed, host = cluster.feed, cluster.host
    turn = KernelTurn(open_kernel())
    closing.callback(turn.close)
    forget_places(settings.user_sandboxes)
    recorded.recover(turn.kernel, host)

    here = reconciling.HostSettings(
        host, settings.vxlan_port, resync, settings.metadata, settings.controllers, run_dir, state_dir
    )
    reconciled = reconciling.build(turn, feed, records, here)
    reconciler = reconciled.reconciler
    held_here = holding.build(cluster, records, turn, reconciler)
    attached = attaching.build(turn, recorded, held_here, reconciler, 2 * resync)
    answering = cni.build(attached, records, held_here, reconciler, settings.queue_dir)
    namespaces = NamespaceDoor(attached.attachments, records)
    control = Control(reconciler, feed, held_here.publication, namespaces.commands)
    users = Users(settings.allowed_networks, settings.user_sandboxes)
    podded = netavark.build(attached, records, held_here, settings.teardown_queue_dir, users)
    docked = docker.build(turn.kernel, attached, records, held_here, state_dir, resync)
    servers = _listening(settings, answering, docked, podded, control, closing)

    files = (records.restore, reconciled.checksums.restore, kept.mark.restore)
    changes, address = attached.attachments.changes, OwnAddress(settings.vtep, settings.controllers)
    return Agent(
        servers={name: server.run() for name, server in servers.items()},
        actors={
            **recorded.actors(changes),
            **cluster.actors(settings.name, address, reconciler.drift.changes, resync, changes),
            **reconciled.actors(),
            **held_here.actors(changes),
            **attached.actors(),
            **answering.actors(resync),
            **docked.actors(),
            **podded.actors(resync),
            **probing.actors(turn, feed, reconciler, host, resync),
            "status": show_status(supervisor, control, Changes(feed.changes, reconciler.reports)),
            "garbage": collect_seldom(reconciler.reports),
            "watchdog": supervisor.watch(turn.is_free_within),
            "run directory": RunDirectory(run_dir, kept.locks, servers.values(), files).run(),
        },
    )


def _listening(  # noqa: PLR0913, PLR0917 - each way in has a socket
    settings: Settings,
    answering: cni.CniParts,
    docked: DockerParts,
    podded: netavark.NetavarkParts,
    control: Control,
    closing: AsyncExitStack,
) -> Mapping[str, UnixServer[Any]]:
    """Listen on the sockets; requests wait until the servers run."""
    servers: dict[str, UnixServer[Any]] = {
        "CNI": UnixServer(settings.cni_socket, answering.server.answer, GRACE),
        "netavark": UnixServer(settings.netavark_socket, podded.server.answer, GRACE),
        "control": UnixServer(settings.control_socket, control.answer, GRACE),
    }
    try:
        servers["Docker"] = UnixServer(settings.docker_socket, docked.server.answer, GRACE, read_request)
    except OSError as error:  # the directory is Docker's: other runtimes need the agent all the same
        _log.warning("Docker cannot use overlayd", socket=str(settings.docker_socket), reason=str(error))
    if settings.grants:
        door = podded.users
        servers["users"] = UnixServer(
            settings.users_socket,
            door.answer,
            GRACE,
            door.read,
            door.over,
            close=door.close,
            users=settings.allowed_networks,
        )
    for server in servers.values():
        closing.callback(server.close)
    return servers
