"""Wiring the agent together, and its life from start to stop."""

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import Collection, Coroutine
from functools import partial

import structlog

from overlayd.agent.attach.addressing import Addressing
from overlayd.agent.attach.attachments import Attachments
from overlayd.agent.attach.leaks import Leaks
from overlayd.agent.cni.collection import Collector
from overlayd.agent.cni.del_queue import DelQueue
from overlayd.agent.cni.readiness import Readiness
from overlayd.agent.cni.server import CniServer
from overlayd.agent.control.server import Control
from overlayd.agent.controllers.claims import Claims
from overlayd.agent.controllers.client import ControllerClient
from overlayd.agent.controllers.cluster_cache import ClusterCache, ClusterCacheWriter
from overlayd.agent.controllers.controller_list import Controllers
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.controllers.host_identity import load_identity
from overlayd.agent.controllers.own_address import OwnAddress
from overlayd.agent.holdings import publication
from overlayd.agent.holdings.blocks import HeldBlocks
from overlayd.agent.holdings.publication import Publication
from overlayd.agent.holdings.reservations import HeldReservations
from overlayd.agent.holdings.shared_addresses import SharedAddresses
from overlayd.agent.probes.offload import OffloadProbe
from overlayd.agent.probes.path import PathProbe
from overlayd.agent.reconcile.checksums import Checksums
from overlayd.agent.reconcile.controller_addresses import ControllerAddresses
from overlayd.agent.reconcile.reconciler import Local, Reconciler
from overlayd.agent.reconcile.vxlan_ports import remember_vxlan_port
from overlayd.agent.records import record_copies
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.records.quarantine import RestingAddresses
from overlayd.agent.records.recovery import recover
from overlayd.agent.run_directory import RunDirectory
from overlayd.agent.runtime.instance_lock import Lock, held
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.agent.runtime.preparation import prepare
from overlayd.agent.runtime.signals import Changes
from overlayd.agent.runtime.unix_server import UnixServer
from overlayd.agent.settings import Settings
from overlayd.kernel.descriptor_limit import raise_descriptor_limit
from overlayd.kernel.linux import LinuxKernel
from overlayd.model.cluster import Cluster
from overlayd.wire.feed import FEED_VERSION
from overlayd.wire.systemd_notify import ServiceManager

_log = structlog.get_logger(__name__)

STATUS_INTERVAL = 1.0
"""Seconds between two words to the supervisor."""

GRACE = 3.0
"""Seconds that requests under way have to end by themselves when the agent stops; then what they made is undone."""

Actors = dict[str, Coroutine[None, None, None]]
Servers = dict[str, UnixServer]


def collect_seldom() -> None:
    """Look for garbage in cycles less often than Python does by itself.

    A cluster is tens of thousands of objects that stay: looking through them all the time takes longer than the work.
    """
    gc.set_threshold(50_000, 20, 20)


async def run(settings: Settings, supervisor: ServiceManager) -> None:
    """Run the agent until SIGTERM or SIGINT. Stopping leaves the kernel as it is: traffic goes on.

    The supervisor gets signs of life while the event loop runs and nothing keeps the kernel from everybody else.

    Raises:
        InUse: another agent runs on this host.
        InvalidValue: the host's id, a record or the cache is damaged; names the file.
        OSError: a directory cannot be used.
        ExceptionGroup: something unexpected happened; the process ends, and whoever supervises it starts it again.
    """
    collect_seldom()
    raise_descriptor_limit()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as closing:
        locks = closing.enter_context(held(settings.state_dir, settings.run_dir))
        actors, servers = _wire(settings, supervisor, locks, closing)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(actor, name=name) for name, actor in actors.items()]
            serving = [tasks.create_task(server.run(), name=name) for name, server in servers.items()]
            supervisor.tell("READY=1")
            _log.info("agent is up", name=settings.name)
            await stop.wait()
            supervisor.tell("STOPPING=1", "STATUS=traffic goes on without the agent")
            await _cancelled(serving)  # requests under way need the others to come to their end
            await _cancelled(running)


async def _cancelled(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks; return when they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _wire(
    settings: Settings, supervisor: ServiceManager, locks: Collection[Lock], closing: contextlib.AsyncExitStack
) -> tuple[Actors, Servers]:
    """Make every part, open the sockets, and return what is to run: the servers stop first."""
    identity = load_identity(settings.state_dir)
    cache = ClusterCache(settings.state_dir / "cluster.json")
    records = AttachmentRecords(settings.run_dir / "attachments")
    records.load()
    controllers = Controllers.for_host(settings.controllers, identity.id)
    feed_client = ControllerClient(controllers, identity, settings.credential)
    closing.push_async_callback(feed_client.close)
    kept = ClusterCache(settings.state_dir / "kept.json")
    claims = Claims(feed_client, lambda: records.endpoints, kept.load(), partial(_save_kept, kept))
    feed = ClusterFeed(feed_client, cache.load(), claims)
    caching = ClusterCacheWriter(cache, feed)
    closing.callback(caching.finish)
    turn = KernelTurn(LinuxKernel(settings.run_dir / "tables"))
    closing.callback(turn.close)

    checksums = Checksums(settings.run_dir / "software-checksums")
    former_ports = remember_vxlan_port(settings.state_dir / "vxlan-ports", settings.vxlan_port)
    addresses = ControllerAddresses(settings.controllers, settings.state_dir / "controllers.json")
    local = Local(identity.id, settings.vxlan_port, settings.resync, former_ports, addresses, settings.metadata)
    reconciler = Reconciler(turn, feed, records, checksums, local)
    client = ControllerClient(controllers, identity, settings.credential)
    closing.push_async_callback(client.close)
    blocks = HeldBlocks(identity.id, client, feed, records)
    published = Publication(client, feed, records, partial(reconciler.notice, "publication"))
    reservations = HeldReservations(client, feed, records, published)
    resting = RestingAddresses(settings.run_dir / "resting", time.monotonic)
    addressing = Addressing(records, blocks, reservations, resting)
    attachments = Attachments(turn, records, blocks, addressing, reconciler)
    turn.kernel.reap(turn.kernel.leftovers())  # what an agent left that was killed
    copies = record_copies.loaded(settings.state_dir / "attachments")
    recover(turn.kernel, identity.id, records, copies.attachments)
    queue = DelQueue(settings.queue_dir, attachments.detach)
    readiness = Readiness(blocks, addressing, reconciler.ensure, client)
    cni = CniServer(attachments, Collector(attachments.detach, records), readiness, queue)
    control = Control(reconciler, feed, published)
    servers = {
        "CNI": UnixServer(settings.cni_socket, cni.answer, GRACE),
        "control": UnixServer(settings.control_socket, control.answer, GRACE),
    }
    for server in servers.values():
        closing.callback(server.close)

    own_address = OwnAddress(settings.vtep, settings.controllers)
    actors = {
        "feed": feed.run(settings.name, own_address.current),
        "own address": own_address.follow(reconciler.drift.changes, settings.resync, feed, (feed_client, client)),
        "controller addresses": addresses.follow(settings.resync, reconciler.drift),
        "reconcile": reconciler.run(),
        "drift": reconciler.drift.run(),
        "path probe": PathProbe(turn, feed, reconciler, identity.id).run(),
        "offload probe": OffloadProbe(feed, reconciler, settings.resync).run(),
        "blocks": blocks.run(attachments.changes),
        "reservations": reservations.run(attachments.changes),
        "shared addresses": SharedAddresses(turn, client, feed, records, reconciler).run(attachments.changes),
        "announcements": attachments.announcements.run(),
        "reaper": attachments.reaper.run(),
        "preparation": prepare(turn.kernel, reconciler.reports),
        "publication": published.run(attachments.changes),
        "report": publication.report(feed_client, feed, reconciler),
        "cache": caching.run(),
        "claims": claims.run(lambda: feed.cluster, feed.changes, attachments.changes),
        "word to the supervisor": _tell(supervisor, control, Changes(feed.changes, reconciler.reports)),
        "watchdog": supervisor.watch(turn.is_free_within),
        "queue": queue.run(settings.resync),
        "run directory": RunDirectory(settings.run_dir, locks, servers.values(), records, checksums).run(),
        "copies of records": record_copies.RecordCopies(records, copies).run(attachments.changes),
        "leaks": Leaks(attachments, records, 2 * settings.resync, time.monotonic).run(),
    }
    return actors, servers


def _save_kept(cache: ClusterCache, kept: Cluster) -> None:
    try:
        cache.save(kept, FEED_VERSION)
    except OSError as error:
        _log.warning("cannot save what containers have of networks that are lost", problem=str(error))


async def _tell(supervisor: ServiceManager, control: Control, changes: Changes) -> None:
    """Tell the supervisor in a few words how the agent is, whenever that changes."""
    seen, told = 0, ""
    while True:
        if (summary := control.summary()) != told:
            told = summary
            supervisor.tell(f"STATUS={summary}")
        await asyncio.sleep(STATUS_INTERVAL)
        seen = await changes.wait(seen)
