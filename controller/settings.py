"""What a controller is told at its start, by flags and by the environment. Nothing else reads the environment."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from overlayd.model.errors import InvalidValue

StoreOption = Annotated[
    Path,
    typer.Option("--store", envvar="OVERLAY_CONTROLLER_STORE", help="The SQLite file of the store.", dir_okay=False),
]
ListenOption = Annotated[
    list[str],
    typer.Option(
        "--listen",
        envvar="OVERLAY_CONTROLLER_LISTEN",
        help="Where to listen: HOST:PORT, or fd:N for a bound socket that the parent hands over. May be repeated.",
    ),
]

DEFAULT_STORE = Path("/var/lib/overlay-controller/store.db")
DEFAULT_LISTEN = ["127.0.0.1:7471"]

_PORT_MAX = 65535


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An address to bind. An IPv6 one is written in brackets."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class InheritedSocket:
    """A file descriptor that is a bound socket."""

    fd: int


Listen = TcpAddress | InheritedSocket


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one controller process; a change is a restart. `notify` is systemd's socket, if it started us."""

    store: Path
    listen: tuple[Listen, ...]
    notify: str | None


def load(store: Path, listen: list[str]) -> Settings:
    """Return the settings; raise `InvalidValue` that names the option."""
    return Settings(store, tuple(parse_listen(text) for text in listen), os.environ.get("NOTIFY_SOCKET"))


def parse_listen(text: str) -> Listen:
    """Read where to listen; raise `InvalidValue`."""
    host, _, number = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and number.isascii() and number.isdigit() and int(number) <= _PORT_MAX):
        raise InvalidValue(f"{text!r} is neither HOST:PORT nor fd:N", field="--listen")
    return InheritedSocket(int(number)) if host == "fd" else TcpAddress(host, int(number))
