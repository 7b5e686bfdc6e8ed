"""The `overlayd` command."""

import asyncio
import socket
import sys
from enum import StrEnum
from importlib.metadata import version
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated

import typer

from overlayd.agent import daemon, logs
from overlayd.agent.settings import VXLAN_PORT, Settings
from overlayd.model.errors import OverlayError

app = typer.Typer(
    help="The host agent of the overlayd VXLAN network.", no_args_is_help=True, pretty_exceptions_enable=False
)


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback has this form
    if wanted:
        typer.echo(f"overlayd {version('overlayd')}")
        raise typer.Exit


def _address(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not an IPv4 address") from None


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that every command shares."""


@app.command()
def run(
    controller: Annotated[
        list[str],
        typer.Option(envvar="OVERLAYD_CONTROLLER", help="URL of a controller; several may be given."),
    ],
    name: Annotated[str, typer.Option(envvar="OVERLAYD_NAME", help="Display name of this host.")] = "",
    vtep: Annotated[
        IPv4Address | None,
        typer.Option(
            envvar="OVERLAYD_VTEP",
            parser=_address,
            metavar="ADDRESS",
            help="Underlay address of this host; the one that reaches the first controller if unset.",
        ),
    ] = None,
    vxlan_port: Annotated[int, typer.Option(envvar="OVERLAYD_VXLAN_PORT", help="UDP port of VXLAN.")] = VXLAN_PORT,
    state_dir: Annotated[
        Path, typer.Option(envvar="OVERLAYD_STATE_DIR", help="Host id and cluster cache; outlives the boot.")
    ] = Path("/var/lib/overlayd"),
    resync: Annotated[
        float, typer.Option(envvar="OVERLAYD_RESYNC", help="Seconds between two looks at the whole kernel state.")
    ] = 30.0,
    log_level: Annotated[LogLevel, typer.Option(envvar="OVERLAYD_LOG_LEVEL", help="Log from here on.")] = LogLevel.INFO,
) -> None:
    """Run the agent until it is told to stop; traffic goes on without it."""
    logs.configure(log_level)
    try:
        settings = Settings(
            controllers=tuple(controller),
            name=name or socket.gethostname(),
            vtep=vtep,
            vxlan_port=vxlan_port,
            state_dir=state_dir,
            resync=resync,
        )
        asyncio.run(daemon.run(settings))
    except (OverlayError, OSError) as error:
        typer.echo(f"overlayd: {error}", err=True)
        sys.exit(1)


def main() -> None:
    """Entry point of the `overlayd` command."""
    app()
