"""The life of a controller that serves: its start, its stop, and another start when its store is another one."""

import asyncio
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog

from controller.clock import Clock
from controller.commands.listen_addresses import served
from controller.lifecycle.bootstrap import EmptyStore
from controller.lifecycle.known_store import KnownStore
from controller.overlay import Overlay
from controller.past.pruning import Pruning
from controller.serving import upkeep
from controller.serving.http_server import HttpServer
from controller.settings import ControllerSettings
from controller.state.keys import Unreadable
from controller.store.embedded import StoreRefused
from controller.store.opening import open_store
from controller.store.port import Replaced, Store, StoreUnavailable
from controller.tls import Secured, StartRefused, secure
from overlayd.model.errors import Unavailable
from overlayd.service.ready_threads import ready_threads

_WORKERS = 2
"""Threads for files that hold up the event loop (`asyncio.to_thread`): the password of etcd, and the known store."""

_REOPENING_PAUSE = 1.0
"""Seconds until a store is opened again that turned out to be another one."""

_log = structlog.get_logger()


def run_until_stopped(chosen: ControllerSettings, sockets: list[socket.socket], clock: Clock) -> list[BaseException]:
    """Serve until a signal arrives; return the reasons of a failure, none after a signal.

    When the store turns out to be another one, everything is built again from what the store holds now.
    """
    while True:
        reasons: list[BaseException] = []
        replacements: list[str] = []
        # Nothing may be raised inside: some releases of Python 3.11 put that into a group.
        try:
            ended = asyncio.run(_serve(chosen, [each.dup() for each in sockets], clock))
            replacements += filter(None, [ended])
        except* Replaced as group:
            replacements += map(str, _leaves(group))
        except* (Unreadable, StartRefused, StoreRefused, EmptyStore) as group:
            reasons += _leaves(group)
        if reasons or not replacements:
            return reasons
        _log.warning("the store is another one than it was; all of it is read again", reason="; ".join(replacements))
        time.sleep(_REOPENING_PAUSE)


async def _serve(chosen: ControllerSettings, sockets: list[socket.socket], clock: Clock) -> str | None:
    """Serve on these sockets until a signal comes, or until the store is another one: then return how that was seen.

    Raises `StoreRefused`, `StartRefused` or `Unreadable`.
    """
    asyncio.get_running_loop().set_default_executor(_workers())
    known = KnownStore(chosen.known_store)
    store = open_store(chosen.store, clock)
    overlay = _overlay(store, chosen, sockets, clock)
    replaced: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as tasks:
        background = [tasks.create_task(_run_store(store, replaced), name="store")]
        await upkeep.load(overlay, store, known, chosen)
        pruning = Pruning(store, chosen.history)
        background += [
            tasks.create_task(overlay.run(), name="overlay"),
            tasks.create_task(_follow_lineage(overlay, replaced), name="lineage"),
            tasks.create_task(upkeep.remember(overlay, known), name="known store"),
            tasks.create_task(chosen.supervisor.watch(lambda _patience: True), name="watchdog"),
            tasks.create_task(upkeep.prune(store, overlay, pruning), name="pruning"),
        ]
        secured = await secure(chosen, overlay, store, sockets) if chosen.tls else None
        if secured:
            background.append(tasks.create_task(secured.keep(clock), name="certificate"))
        server = HttpServer(overlay, sockets, secured, clock)
        background.append(tasks.create_task(server.listener.run(), name="listener"))
        _stop_on_signal(partial(_stop, chosen, overlay, server), replaced)
        _announce(chosen, sockets, secured)
        await server.serve(sockets)
        if not replaced.done():
            await _withdraw(overlay)
        if found := overlay.known():
            known.note(found)
        for task in background:
            task.cancel()
    await store.close()
    return replaced.result() if replaced.done() else None


def _workers() -> ThreadPoolExecutor:
    try:
        return ready_threads(_WORKERS, "worker")
    except Unavailable as error:
        raise StartRefused(str(error)) from error


def _overlay(store: Store, chosen: ControllerSettings, sockets: list[socket.socket], clock: Clock) -> Overlay:
    return Overlay(
        store,
        clock,
        secrets.token_hex(4),
        chosen.quarantine,
        addresses=served(sockets),
        recovery_time=chosen.recovery_time,
        host_networks=chosen.host_networks,
        host_blocks=chosen.host_blocks,
    )


def _stop(chosen: ControllerSettings, overlay: Overlay, server: HttpServer) -> None:
    chosen.supervisor.tell("STOPPING=1")
    overlay.feeds.end()
    overlay.watches.end()
    server.should_exit = True


def _stop_on_signal(stop: Callable[[], None], replaced: asyncio.Future[str]) -> None:
    """Call `stop` at SIGTERM and SIGINT, and when the store turns out to be another one."""
    replaced.add_done_callback(lambda _: stop())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def _announce(chosen: ControllerSettings, sockets: list[socket.socket], secured: Secured | None) -> None:
    """Log that the controller serves, and notify systemd."""
    _log.info(
        "serving",
        addresses=[str(sock.getsockname()) for sock in sockets],
        store=str(chosen.store),
        security=_security(secured),
    )
    addresses = " ".join("{}:{}".format(*sock.getsockname()[:2]) for sock in sockets)
    chosen.supervisor.tell("READY=1", f"STATUS=serving at {addresses}")


async def _withdraw(overlay: Overlay) -> None:
    """Delete the presence of the hosts that were connected here from the store at once."""
    try:
        await overlay.connections.withdraw()
    except StoreUnavailable as error:
        _log.warning("hosts count as connected until the lease of this controller ends", error=str(error))


async def _run_store(store: Store, replaced: asyncio.Future[str]) -> None:
    """Run the store; set `replaced` when it turns out to be another one than was opened."""
    try:
        await store.run()
    except* Replaced as group:
        _settle(replaced, "; ".join(str(leaf) for leaf in _leaves(group)))


async def _follow_lineage(overlay: Overlay, replaced: asyncio.Future[str]) -> None:
    _settle(replaced, await overlay.mirror.replaced())


def _settle(replaced: asyncio.Future[str], reason: str) -> None:
    if not replaced.done():
        replaced.set_result(reason)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _security(secured: Secured | None) -> str:
    if secured is None:
        return "none: everybody may do everything"
    return f"TLS, authority {secured.fingerprint}" if secured.authority else "TLS with a given certificate"
