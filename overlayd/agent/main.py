"""The `overlayd` command."""

import asyncio
import contextlib
import faulthandler
import os
import socket
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from overlayd.agent import credential, daemon, install, install_cni, local_commands, logs
from overlayd.agent import join as joining
from overlayd.agent.identity import load_identity
from overlayd.agent.settings import (
    DEFAULT_RESYNC,
    DEFAULT_STATE_DIR,
    SCHEMA,
    VXLAN_PORT,
    LogLevel,
    Settings,
)
from overlayd.configuration import sources
from overlayd.model.errors import InvalidValue, OverlayError
from overlayd.wire.credentials import parse_join_token
from overlayd.wire.fields import parse_address
from overlayd.wire.supervisor import Supervisor

app = typer.Typer(
    help="The host agent of the overlayd VXLAN network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # the journal is no terminal
)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="OVERLAYD_CONFIG",
        metavar="FILE",
        is_eager=True,
        callback=sources.reader(SCHEMA),
        help=f"A TOML file of settings; {SCHEMA.path} if there is one.",
        show_default=False,
    ),
]
StateDir = Annotated[
    Path,
    typer.Option(
        envvar="OVERLAYD_STATE_DIR",
        metavar="DIRECTORY",
        help="Host id, credential and cluster cache; outlives the boot.",
    ),
]


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
    context: typer.Context,
    _config: ConfigOption = None,
    controller: Annotated[
        list[str] | None,
        typer.Option(
            envvar="OVERLAYD_CONTROLLER",
            metavar="URL",
            help="URL of a controller; several may be given. Those at which this host joined if unset.",
        ),
    ] = None,
    name: Annotated[
        str,
        typer.Option(envvar="OVERLAYD_NAME", metavar="NAME", help="Display name of this host; the host name if unset."),
    ] = "",
    vtep: Annotated[
        str | None,
        typer.Option(
            envvar="OVERLAYD_VTEP",
            metavar="ADDRESS",
            help="Underlay address of this host; the one that reaches the first controller if unset.",
        ),
    ] = None,
    vxlan_port: Annotated[
        int, typer.Option(envvar="OVERLAYD_VXLAN_PORT", metavar="PORT", help="UDP port of VXLAN.")
    ] = VXLAN_PORT,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    resync: Annotated[
        float,
        typer.Option(
            envvar="OVERLAYD_RESYNC", metavar="SECONDS", help="Seconds between two looks at the whole kernel state."
        ),
    ] = DEFAULT_RESYNC,
    log_level: Annotated[LogLevel, typer.Option(envvar="OVERLAYD_LOG_LEVEL", help="Log from here on.")] = LogLevel.INFO,
) -> None:
    """Run the agent until it is told to stop; traffic goes on without it."""
    logs.configure(log_level)
    faulthandler.enable()  # the watchdog's SIGABRT leaves in the journal where the process was
    with _told(context):
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


@app.command()
def join(
    context: typer.Context,
    controllers: Annotated[list[str], typer.Argument(metavar="URL...", help="URLs of controllers, https only.")],
    token_file: Annotated[
        Path, typer.Option("--token-file", metavar="FILE", help="A file with a join token; - is standard input.")
    ],
    _config: ConfigOption = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Let this host join: exchange a join token for a credential, which `run` uses from its next start on."""
    with _told(context):
        token = parse_join_token(joining.read_token(token_file), "--token-file")
        host = load_identity(state_dir).id
        saved = credential.save(state_dir, joining.join(controllers, token, host))
    typer.echo(f"joined as host {host}; the credential is in {saved}. Now start or restart the agent.")


@contextlib.contextmanager
def _told(context: typer.Context) -> Iterator[None]:
    """Tell people of what goes wrong in one line, which names where a setting at fault stands."""
    try:
        with sources.located(context):
            yield
    except (OverlayError, OSError) as error:
        typer.echo(f"overlayd: {error}", err=True)
        sys.exit(1)


app.command("plan")(local_commands.plan)
app.command("status")(local_commands.status)
app.command("cleanup")(local_commands.cleanup)
app.command("install")(install.install)
app.command("install-cni")(install_cni.install_cni)


def main() -> None:
    """Entry point of the `overlayd` command."""
    app()
