"""The `overlayd` command."""

import asyncio
import faulthandler
import os
import socket
import sys
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from overlayd.agent import credential, daemon, install_cni, local_commands, logs
from overlayd.agent import join as joining
from overlayd.agent.identity import load_identity
from overlayd.agent.settings import VXLAN_PORT, Settings
from overlayd.model.errors import InvalidValue, OverlayError
from overlayd.wire.credentials import parse_join_token
from overlayd.wire.fields import parse_address
from overlayd.wire.supervisor import Supervisor

app = typer.Typer(
    help="The host agent of the overlayd VXLAN network.", no_args_is_help=True, pretty_exceptions_enable=False
)


DEFAULT_STATE_DIR = Path("/var/lib/overlayd")
StateDir = Annotated[
    Path,
    typer.Option(envvar="OVERLAYD_STATE_DIR", help="Host id, credential and cluster cache; outlives the boot."),
]


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
        list[str] | None,
        typer.Option(
            envvar="OVERLAYD_CONTROLLER",
            help="URL of a controller; several may be given. Those at which this host joined if unset.",
        ),
    ] = None,
    name: Annotated[str, typer.Option(envvar="OVERLAYD_NAME", help="Display name of this host.")] = "",
    vtep: Annotated[
        str | None,
        typer.Option(
            envvar="OVERLAYD_VTEP",
            metavar="ADDRESS",
            help="Underlay address of this host; the one that reaches the first controller if unset.",
        ),
    ] = None,
    vxlan_port: Annotated[int, typer.Option(envvar="OVERLAYD_VXLAN_PORT", help="UDP port of VXLAN.")] = VXLAN_PORT,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    resync: Annotated[
        float, typer.Option(envvar="OVERLAYD_RESYNC", help="Seconds between two looks at the whole kernel state.")
    ] = 30.0,
    log_level: Annotated[LogLevel, typer.Option(envvar="OVERLAYD_LOG_LEVEL", help="Log from here on.")] = LogLevel.INFO,
) -> None:
    """Run the agent until it is told to stop; traffic goes on without it."""
    logs.configure(log_level)
    faulthandler.enable()  # the watchdog's SIGABRT leaves in the journal where the process was
    try:
        joined = credential.load(state_dir)
        if joined is None and any(url.startswith("https://") for url in controller or ()):
            raise InvalidValue("this host has not joined: overlayd join URL --token-file FILE", field="--controller")
        settings = Settings(
            controllers=tuple(controller or ()) or (joined.controllers if joined else ()),
            name=name or socket.gethostname(),
            credential=joined,
            vtep=None if vtep is None else parse_address(vtep, "--vtep"),
            vxlan_port=vxlan_port,
            state_dir=state_dir,
            resync=resync,
        )
        asyncio.run(daemon.run(settings, Supervisor.of(os.environ, os.getpid())))
    except (OverlayError, OSError) as error:
        typer.echo(f"overlayd: {error}", err=True)
        sys.exit(1)


@app.command()
def join(
    controllers: Annotated[list[str], typer.Argument(metavar="URL...", help="URLs of controllers, https only.")],
    token_file: Annotated[
        Path, typer.Option("--token-file", metavar="FILE", help="A file with a join token; - is standard input.")
    ],
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Let this host join: exchange a join token for a credential, which `run` uses from its next start on."""
    try:
        token = parse_join_token(joining.read_token(token_file), "--token-file")
        host = load_identity(state_dir).id
        saved = credential.save(state_dir, joining.join(controllers, token, host))
    except (OverlayError, OSError) as error:
        typer.echo(f"overlayd: {error}", err=True)
        sys.exit(1)
    typer.echo(f"joined as host {host}; the credential is in {saved}. Now start or restart the agent.")


app.command("plan")(local_commands.plan)
app.command("status")(local_commands.status)
app.command("cleanup")(local_commands.cleanup)
app.command("install-cni")(install_cni.install_cni)


def main() -> None:
    """Entry point of the `overlayd` command."""
    app()
