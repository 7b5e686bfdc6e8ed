"""The command `overlay-controller`."""

import asyncio
import logging
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Annotated

import structlog
import typer
import uvicorn

from controller import settings
from controller.api.app import create_app
from controller.api.auth import INSECURE
from controller.clock import Clock, SystemClock
from controller.services.keys import Unreadable
from controller.services.overlay import Overlay
from controller.settings import InheritedSocket, Listen, ListenOption, Settings, StoreOption
from controller.store.embedded import EmbeddedStore, StoreRefused
from controller.store.port import Store, StoreUnavailable
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import Revision

_HISTORY_KEPT = 100_000
"""Revisions that a compaction leaves."""

_COMPACTION_INTERVAL = 300.0
"""Seconds."""

_STOP_MAX = 1
"""Seconds that requests under way have at a stop."""

_USER_TIMEOUT_MS = 15_000
"""How long a peer may leave our data unacknowledged: a host that lost its power is noticed after that."""

_log = structlog.get_logger()

app = typer.Typer(
    help="The controller of a VXLAN overlay network for container hosts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # the journal is no terminal
)


class _Server(uvicorn.Server):
    """A server that leaves the signals to us: uvicorn would raise them again, before the store is closed."""

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


@app.command()
def run(
    store: StoreOption = settings.DEFAULT_STORE,
    listen: ListenOption = settings.DEFAULT_LISTEN,
) -> None:
    """Run the controller until SIGTERM or SIGINT."""
    _configure_logging()
    clock = SystemClock()
    try:
        chosen = settings.load(store, listen)
        sockets = [_bind(each) for each in chosen.listen]
        opened = EmbeddedStore.open(chosen.store, clock)
    except (InvalidValue, StoreRefused, OSError) as refused:
        _log.error("cannot start", reason=str(refused))
        raise typer.Exit(1) from None
    try:
        asyncio.run(serve(chosen, opened, sockets, clock))
    except* Unreadable as unreadable:
        for reason in _leaves(unreadable):
            _log.error("cannot go on with this store; was it written by a newer controller?", reason=str(reason))
        raise typer.Exit(1) from None


async def serve(chosen: Settings, store: Store, sockets: list[socket.socket], clock: Clock) -> None:
    """Serve on these sockets until a signal comes, then let go of the store."""
    overlay = Overlay(store, clock, secrets.token_hex(4))
    config = uvicorn.Config(
        create_app(overlay, INSECURE),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=_STOP_MAX,
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as tasks:
        background = [
            tasks.create_task(store.run(), name="store"),
            tasks.create_task(_compact(store, clock), name="compaction"),
        ]
        await overlay.load()
        background.append(tasks.create_task(overlay.run(), name="overlay"))

        def stop() -> None:
            _notify(chosen, "STOPPING=1")
            overlay.feeds.end()
            server.should_exit = True

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        _log.info("serving", addresses=[str(sock.getsockname()) for sock in sockets], store=str(chosen.store))
        _notify(chosen, "READY=1")
        await server.serve(sockets)
        await overlay.connections.withdraw()
        for task in background:
            task.cancel()
    await store.close()


def main() -> None:
    """Run the command line."""
    app()


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


async def _compact(store: Store, clock: Clock) -> None:
    while True:
        try:
            await store.compact(Revision(await store.current_revision() - _HISTORY_KEPT))
        except StoreUnavailable as error:
            _log.warning("not compacted", error=str(error))
        await clock.sleep(_COMPACTION_INTERVAL)


def _bind(listen: Listen) -> socket.socket:
    if isinstance(listen, InheritedSocket):
        sock = socket.socket(fileno=listen.fd)
    else:
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        sock = socket.create_server((listen.host, listen.port), family=family)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)  # sockets of connections inherit it
    return sock


def _notify(chosen: Settings, state: str) -> None:
    """Tell systemd (sd_notify(3)), if it asked."""
    if chosen.notify:
        address = chosen.notify.replace("@", "\0", 1) if chosen.notify.startswith("@") else chosen.notify
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(state.encode(), address)


def _configure_logging() -> None:
    """Write one JSON object a line to stderr: ours from INFO on, the libraries' from WARNING on."""
    stamps: list[structlog.types.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=stamps,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    structlog.configure(
        processors=[*stamps, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
