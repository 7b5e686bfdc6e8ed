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

TlsCertOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        envvar="OVERLAY_CONTROLLER_TLS_CERT",
        help="A certificate (PEM, with its chain) that the system's roots on hosts and elsewhere vouch for. "
        "Without one the controller issues its own.",
        dir_okay=False,
    ),
]
TlsKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-key", envvar="OVERLAY_CONTROLLER_TLS_KEY", help="The private key of --tls-cert.", dir_okay=False
    ),
]
TlsNameOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tls-name",
        envvar="OVERLAY_CONTROLLER_TLS_NAME",
        help="A further DNS name or address for the controller's own certificate. May be repeated.",
    ),
]
InsecureOption = Annotated[
    bool,
    typer.Option(
        "--insecure",
        envvar="OVERLAY_CONTROLLER_INSECURE",
        help="Serve without TLS, and let everybody do everything: for a demonstration.",
    ),
]
AdminTokenOption = Annotated[
    Path | None,
    typer.Option(
        "--admin-token-file",
        envvar="OVERLAY_CONTROLLER_ADMIN_TOKEN_FILE",
        help="Where the first start leaves the first token; beside the store if unset. "
        "The authority's certificate stands beside it, in ca.pem.",
        dir_okay=False,
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
class OwnCertificate:
    """TLS with a certificate of the cluster's authority, for these names besides those of the machine."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GivenCertificate:
    """TLS with a certificate that somebody else issued, for clients that trust their system's roots."""

    certificate: Path
    key: Path


Tls = OwnCertificate | GivenCertificate


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one controller process; a change is a restart. `notify` is systemd's socket, if it started us.

    `tls` None: neither TLS nor tokens.
    """

    store: Path
    listen: tuple[Listen, ...]
    tls: Tls | None
    admin_token: Path
    notify: str | None


def load(store: Path, listen: list[str], tls: Tls | None, admin_token: Path | None) -> Settings:
    """Return the settings; raise `InvalidValue` that names the option."""
    return Settings(
        store=store,
        listen=tuple(parse_listen(text) for text in listen),
        tls=tls,
        admin_token=admin_token or store.with_name("admin-token"),
        notify=os.environ.get("NOTIFY_SOCKET"),
    )


def load_tls(cert: Path | None, key: Path | None, names: list[str], *, insecure: bool) -> Tls | None:
    """Return how connections are secured, None for not at all; raise `InvalidValue` that names the option."""
    if insecure:
        if cert or key or names:
            raise InvalidValue("goes with none of --tls-cert, --tls-key and --tls-name", field="--insecure")
        return None
    if not (cert or key):
        return OwnCertificate(tuple(names))
    if not (cert and key):
        raise InvalidValue("go together", field="--tls-cert and --tls-key")
    if names:
        raise InvalidValue("is for the controller's own certificate: --tls-cert has names already", field="--tls-name")
    return GivenCertificate(cert, key)


def parse_listen(text: str) -> Listen:
    """Read where to listen; raise `InvalidValue`."""
    host, _, number = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and number.isascii() and number.isdigit() and int(number) <= _PORT_MAX):
        raise InvalidValue(f"{text!r} is neither HOST:PORT nor fd:N", field="--listen")
    return InheritedSocket(int(number)) if host == "fd" else TcpAddress(host, int(number))
