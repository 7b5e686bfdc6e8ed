"""The command `overlay-controller`."""

import asyncio
import faulthandler
import json
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from typing import Annotated, Any

import structlog
import typer
import uvicorn

from controller import settings
from controller.api.app import create_app
from controller.api.http.auth import INSECURE
from controller.clock import Clock, SystemClock
from controller.commands import init, store_commands
from controller.commands.listen_addresses import served
from controller.commands.options import (
    AdminTokenOption,
    ByHandConfigOption,
    ConfigOption,
    EtcdCaOption,
    EtcdCertificateOption,
    EtcdKeyOption,
    EtcdPasswordOption,
    EtcdUserOption,
    HistoryCountOption,
    HistoryDaysOption,
    InsecureOption,
    JsonOption,
    ListenOption,
    QuarantineOption,
    RecoveryTimeOption,
    StateDirectoryOption,
    StoreOption,
    TlsCertOption,
    TlsKeyOption,
    TlsNameOption,
)
from controller.identity.roles import Role
from controller.journal.actor import BY_CONTROLLER
from controller.lifecycle.bootstrap import ADMIN, EmptyStore, former_traces, refuse_empty
from controller.lifecycle.known_store import KnownStore
from controller.overlay import Overlay
from controller.past.pruning import DEFAULT as DEFAULT_HISTORY
from controller.past.pruning import Pruning
from controller.rules.quarantine import QUARANTINE
from controller.rules.recovery import RECOVERY_TIME
from controller.server import http
from controller.server.bounds import BOUNDS
from controller.server.listener import Listener, raise_descriptor_limit
from controller.settings import ControllerSettings, InheritedSocket, Listen
from controller.state.keys import Unreadable
from controller.store.embedded import StoreRefused
from controller.store.etcd.cluster import Certificates
from controller.store.opening import StoreChoice, open_store
from controller.store.port import Replaced, Store, StoreUnavailable
from controller.throttle import SeldomFilter
from controller.tls import Secured, StartRefused, secure
from overlayd.configuration import sources
from overlayd.configuration.commands import commands as config_commands
from overlayd.configuration.help_pages import PlainGroup
from overlayd.model.errors import InvalidValue, Unavailable
from overlayd.model.ids import Revision
from overlayd.wire import log_lines

_HISTORY_KEPT = 100_000
"""Revisions that a compaction leaves."""

_COMPACTION_INTERVAL = 300.0
"""Seconds."""

_REMEMBERING_INTERVAL = 5.0
"""Seconds between two notes of how far the store is."""

_REOPENING_PAUSE = 1.0
"""Seconds until a store is opened again that turned out to be another one."""

_LOAD_INTERVAL = 1.0
"""Seconds between attempts to read a store that cannot be reached at the start."""

_START_TIME_MORE = 30_000_000
"""Microseconds that systemd gives a start from an attempt on, also beyond its TimeoutStartSec."""

_STOP_MAX = 1
"""Seconds that requests under way have at a stop."""

_USER_TIMEOUT_MS = 15_000
"""How long a peer may leave our data unacknowledged: a host that lost its power is noticed after that."""

_log = structlog.get_logger()

app = typer.Typer(
    cls=PlainGroup,
    help="The controller of a VXLAN overlay network for container hosts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # the journal is no terminal
)


class _Server(uvicorn.Server):
    """A server that leaves connections and signals to us: uvicorn would raise signals before the store is closed."""

    def __init__(
        self, config: uvicorn.Config, sockets: list[socket.socket], secured: Secured | None, clock: Clock
    ) -> None:
        super().__init__(config)
        context = secured.context if secured else None
        self.listener = Listener(sockets, context, http.protocol(config, self.server_state, BOUNDS), clock, BOUNDS)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin with what serves requests; `listener` brings connections."""
        del sockets
        self.servers = []
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, and let requests under way end."""
        self.listener.stop()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        typer.echo(metadata.version("overlayd"))
        raise typer.Exit


@app.callback()
def _options(  # typer's way to options beside commands
    _version: Annotated[  # noqa: FBT002
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


@app.command(cls=sources.ConfiguredCommand)
def run(
    context: typer.Context,
    _config: ConfigOption = None,
    store: StoreOption = settings.DEFAULT_STORE,
    listen: ListenOption = settings.DEFAULT_LISTEN,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    tls_name: TlsNameOption = None,
    admin_token_file: AdminTokenOption = None,
    insecure: InsecureOption = False,  # noqa: FBT002 - typer's flags
    quarantine: QuarantineOption = QUARANTINE,
    history_days: HistoryDaysOption = DEFAULT_HISTORY.age / 86400,
    history_count: HistoryCountOption = DEFAULT_HISTORY.count,
    etcd_ca: EtcdCaOption = None,
    etcd_cert: EtcdCertificateOption = None,
    etcd_key: EtcdKeyOption = None,
    etcd_user: EtcdUserOption = None,
    etcd_password_file: EtcdPasswordOption = None,
    state_dir: StateDirectoryOption = None,
    recovery_time: RecoveryTimeOption = RECOVERY_TIME,
) -> None:
    """Run the controller until SIGTERM or SIGINT."""
    _configure_logging()
    faulthandler.enable()  # the watchdog's SIGABRT leaves in the journal where the process was
    os.umask(0o077)  # the store holds the authority's key
    raise_descriptor_limit()
    clock = SystemClock()
    try:
        with sources.located(context):
            chosen = settings.choose(
                store=store,
                listen=listen,
                tls_cert=tls_cert,
                tls_key=tls_key,
                tls_name=tls_name,
                admin_token_file=admin_token_file,
                insecure=insecure,
                quarantine=quarantine,
                history_days=history_days,
                history_count=history_count,
                etcd_ca=etcd_ca,
                etcd_cert=etcd_cert,
                etcd_key=etcd_key,
                etcd_user=etcd_user,
                etcd_password_file=etcd_password_file,
                state_dir=state_dir,
                recovery_time=recovery_time,
            )
            sockets = [_bind(each) for each in chosen.listen]
    except (InvalidValue, OSError) as refused:
        _log.error("cannot start", reason=str(refused))
        raise typer.Exit(1) from None
    if reasons := _run(chosen, sockets, clock):
        for reason in reasons:
            newer = "cannot go on with this store; was it written by a newer controller?"
            _log.error(newer if isinstance(reason, Unreadable) else "cannot start", reason=str(reason))
        raise typer.Exit(1)


def _check(values: Mapping[str, Any]) -> None:
    """Look at settings as `run` does."""
    settings.choose(**values)


app.command("init", cls=sources.ConfiguredCommand)(init.init)
app.command("backup", cls=sources.ConfiguredCommand)(store_commands.backup)
app.command("restore", cls=sources.ConfiguredCommand)(store_commands.restore)
app.command("migrate", cls=sources.ConfiguredCommand)(store_commands.migrate)
app.command("new-cluster", cls=sources.ConfiguredCommand)(store_commands.new_cluster)
app.add_typer(config_commands(settings.SCHEMA, _check), name="config")


@app.command(cls=sources.ConfiguredCommand)
def admin_token(
    context: typer.Context,
    _config: ByHandConfigOption = None,
    store: StoreOption = settings.DEFAULT_STORE,
    etcd_ca: EtcdCaOption = None,
    etcd_cert: EtcdCertificateOption = None,
    etcd_key: EtcdKeyOption = None,
    etcd_user: EtcdUserOption = None,
    etcd_password_file: EtcdPasswordOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - typer's flags
) -> None:
    """Make another admin token and print it, when all are lost. No controller may have the store's file open."""
    _configure_logging()
    os.umask(0o077)
    try:
        with sources.located(context):
            certificates = Certificates(etcd_ca, etcd_cert, etcd_key)
            choice = settings.parse_store(store, certificates, etcd_user, etcd_password_file)
            settings.check_for_everybody(choice)
        token = asyncio.run(_made_admin(choice, SystemClock()))
        typer.echo(json.dumps({"token": token}) if as_json else token)
    except (InvalidValue, StoreRefused, OSError) as refused:
        _log.error("no token made", reason=str(refused))
        raise typer.Exit(1) from None


async def _made_admin(choice: StoreChoice, clock: Clock) -> str:
    """Make an admin token; raises `StoreRefused`."""
    store = open_store(choice, clock)
    overlay = Overlay(store, clock, secrets.token_hex(4))
    async with asyncio.TaskGroup() as tasks:
        background = [tasks.create_task(store.run(), name="store")]
        await overlay.load()
        background.append(tasks.create_task(overlay.run(), name="overlay"))
        made = await overlay.tokens.create(BY_CONTROLLER, ADMIN, Role.ADMIN, None)
        for task in background:
            task.cancel()
    await store.close()
    return made.result.token.text


async def serve(chosen: ControllerSettings, sockets: list[socket.socket], clock: Clock) -> str | None:
    """Serve on these sockets until a signal comes, or until the store is another one than it was: returns how, then.

    Raises `StoreRefused`, `StartRefused` or `Unreadable`.
    """
    known = KnownStore(chosen.known_store)
    store = open_store(chosen.store, clock)
    overlay = Overlay(
        store,
        clock,
        secrets.token_hex(4),
        chosen.quarantine,
        addresses=served(sockets),
        recovery_time=chosen.recovery_time,
    )
    replaced: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as tasks:
        background = [tasks.create_task(_run_store(store, replaced), name="store")]
        await _load(overlay, store, known, chosen)
        background += [
            tasks.create_task(overlay.run(), name="overlay"),
            tasks.create_task(_follow_lineage(overlay, replaced), name="lineage"),
            tasks.create_task(_remember(overlay, known), name="known store"),
            tasks.create_task(chosen.supervisor.watch(lambda _patience: True), name="watchdog"),
            tasks.create_task(_tidy(store, overlay, Pruning(store, chosen.history)), name="tidying"),
        ]
        secured = await secure(chosen, overlay, store, sockets) if chosen.tls else None
        if secured:
            background.append(tasks.create_task(secured.keep(clock), name="certificate"))
        server = _Server(_config(overlay, secured), sockets, secured, clock)
        background.append(tasks.create_task(server.listener.run(), name="listener"))

        def stop() -> None:
            chosen.supervisor.tell("STOPPING=1")
            overlay.feeds.end()
            overlay.watches.end()
            server.should_exit = True

        replaced.add_done_callback(lambda _: stop())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        _log.info(
            "serving",
            addresses=[str(sock.getsockname()) for sock in sockets],
            store=str(chosen.store),
            security=_security(secured),
        )
        addresses = " ".join("{}:{}".format(*sock.getsockname()[:2]) for sock in sockets)
        chosen.supervisor.tell("READY=1", f"STATUS=serving at {addresses}")
        await server.serve(sockets)
        try:
            if not replaced.done():
                await overlay.connections.withdraw()
        except StoreUnavailable as error:
            _log.warning("hosts count as connected until the lease of this controller ends", error=str(error))
        if found := overlay.known():
            known.note(found)
        for task in background:
            task.cancel()
    await store.close()
    return replaced.result() if replaced.done() else None


async def _run_store(store: Store, replaced: asyncio.Future[str]) -> None:
    """Run the store; note in `replaced` when it turns out to be another one than was opened."""
    try:
        await store.run()
    except* Replaced as group:
        _settle(replaced, "; ".join(str(leaf) for leaf in _leaves(group)))


async def _follow_lineage(overlay: Overlay, replaced: asyncio.Future[str]) -> None:
    _settle(replaced, await overlay.mirror.replaced())


def _settle(replaced: asyncio.Future[str], reason: str) -> None:
    if not replaced.done():
        replaced.set_result(reason)


async def _remember(overlay: Overlay, known: KnownStore) -> None:
    """Keep on disk how far the store is, for the next start, until cancelled."""
    while True:
        if found := overlay.known():
            await asyncio.to_thread(known.note, found)
        await overlay.clock.sleep(_REMEMBERING_INTERVAL)


def _run(chosen: ControllerSettings, sockets: list[socket.socket], clock: Clock) -> list[BaseException]:
    """Serve until a signal comes; return why that cannot go on, if it cannot.

    When the store turns out to be another one, everything that was made of it goes, and is made of what it is now.
    """
    while True:
        reasons: list[BaseException] = []
        how: list[str] = []
        # Nothing may be raised inside: some releases of Python 3.11 put that into a group.
        try:
            how += filter(None, [asyncio.run(serve(chosen, [each.dup() for each in sockets], clock))])
        except* Replaced as group:
            how += map(str, _leaves(group))
        except* (Unreadable, StartRefused, StoreRefused, EmptyStore) as group:
            reasons += _leaves(group)
        if reasons or not how:
            return reasons
        _log.warning("the store is another one than it was; all of it is read again", reason="; ".join(how))
        time.sleep(_REOPENING_PAUSE)


def main() -> None:
    """Run the command line."""
    app()


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


def _config(overlay: Overlay, secured: Secured | None) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(overlay, secured.security if secured else INSECURE),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=_STOP_MAX,
    )


async def _load(overlay: Overlay, store: Store, known: KnownStore, chosen: ControllerSettings) -> None:
    """Read the store, as soon as it can be read; raises `StartRefused` when it is empty and should not be."""
    waiting = False
    try:
        before = known.load()
    except (InvalidValue, OSError) as error:
        raise StartRefused(str(error)) from None
    while True:
        try:
            await refuse_empty(store, chosen.store, former_traces(chosen.known_store, chosen.own_authority))
            await overlay.load(before)
        except Replaced:
            raise
        except StoreUnavailable as error:
            if not waiting:
                _log.warning("waiting for the store", error=str(error))
            waiting = True
            # A start that waits is no start that hangs (systemd's TimeoutStartSec).
            chosen.supervisor.tell(f"EXTEND_TIMEOUT_USEC={_START_TIME_MORE}", "STATUS=waiting for the store")
            await overlay.clock.sleep(_LOAD_INTERVAL)
        else:
            return


async def _tidy(store: Store, overlay: Overlay, pruning: Pruning) -> None:
    """Forget what nobody needs any more, until cancelled."""
    while True:
        try:
            await store.compact(Revision(await store.current_revision() - _HISTORY_KEPT))
            now = await overlay.time.advance()
            if now is not None:
                await overlay.tokens.purge(now)
                await pruning.prune(now)
        except Unavailable as error:
            _log.warning("not compacted", error=str(error))
        await overlay.clock.sleep(_COMPACTION_INTERVAL)


def _bind(listen: Listen) -> socket.socket:
    """Return a socket that is bound; raise `InvalidValue` that names the option."""
    try:
        if isinstance(listen, InheritedSocket):
            sock = socket.socket(fileno=listen.fd)
        else:
            family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
            sock = socket.create_server((listen.host, listen.port), family=family)
    except OSError as error:
        raise InvalidValue(f"cannot listen at {listen}: {error.strerror}", field="--listen") from None
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)  # sockets of connections inherit it
    return sock


def _configure_logging() -> None:
    """Write one event a line to stderr: ours from INFO on, the libraries' from WARNING on."""
    lines = log_lines.processors(sys.stderr, os.environ)
    stamps: list[structlog.types.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=stamps,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *lines],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    # That a stop cancels is no error: `Stopping` answers those requests, and tells which they were.
    logging.getLogger("uvicorn.error").addFilter(lambda record: not str(record.msg).startswith("Cancel "))
    logging.getLogger("uvicorn.error").addFilter(SeldomFilter())
    structlog.configure(
        processors=[*stamps, *lines],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
