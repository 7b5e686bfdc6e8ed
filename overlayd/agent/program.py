"""The command line of `overlayd`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from overlayd.agent import daemon
from overlayd.agent.commands import (
    install,
    install_cni,
    install_netavark,
    join_command,
    local_commands,
    membership,
    netns,
)
from overlayd.agent.commands.options import ConfigOption, NameOption, StateDirOption, VtepOption, errors_reported
from overlayd.agent.controllers.credential import CREDENTIAL, JOIN_TOKEN, known, read
from overlayd.agent.runtime import logs
from overlayd.agent.settings import (
    DEFAULT_RESYNC,
    DEFAULT_STATE_DIR,
    SCHEMA,
    LogLevel,
    NotJoined,
    choose,
)
from overlayd.configuration import sources
from overlayd.configuration.commands import commands as config_commands
from overlayd.configuration.help_pages import PlainGroup
from overlayd.configuration.systemd_credentials import credential_by_hand, is_encrypted
from overlayd.dataplane.desired.firewall import VXLAN_PORT, Metadata

app = typer.Typer(
    cls=PlainGroup,
    help="The host agent of the overlayd VXLAN network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # the journal is no terminal
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback has this form
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - takes 20 ms, and the agent does without

        typer.echo(f"overlayd {version('overlayd')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Read the options of all commands."""


@app.command(cls=sources.ConfiguredCommand)
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
    name: NameOption = "",
    vtep: VtepOption = None,
    vxlan_port: Annotated[
        int, typer.Option(envvar="OVERLAYD_VXLAN_PORT", metavar="PORT", help="UDP port of VXLAN.")
    ] = VXLAN_PORT,
    metadata: Annotated[
        Metadata,
        typer.Option(
            envvar="OVERLAYD_METADATA",
            help="Whether containers may reach the cloud's metadata addresses, as their host.",
        ),
    ] = Metadata.REFUSED,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    resync: Annotated[
        float,
        typer.Option(
            envvar="OVERLAYD_RESYNC", metavar="SECONDS", help="Seconds between two looks at the whole kernel state."
        ),
    ] = DEFAULT_RESYNC,
    allow_user: Annotated[
        list[str] | None,
        typer.Option(
            envvar="OVERLAYD_ALLOW_USER",
            metavar="UID:NETWORK",
            help="Let podman of a user who is not root use a network; several may be given.",
        ),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(envvar="OVERLAYD_LOG_LEVEL", help="Log from here on.")] = LogLevel.INFO,
) -> None:
    """Run the agent until it is stopped; traffic goes on without it."""
    logs.configure(log_level)
    with errors_reported(context):
        settings = choose(
            controller=controller,
            name=name,
            vtep=vtep,
            vxlan_port=vxlan_port,
            metadata=metadata,
            state_dir=state_dir,
            resync=resync,
            allow_user=allow_user,
            credential=membership.of_host(state_dir, controller or ()),
        )
        daemon.start(settings)


def _check(values: Mapping[str, Any]) -> str | None:
    """Check the settings as `run` does, without joining the host."""
    chosen = {name: value for name, value in values.items() if name != "log_level"}
    try:
        choose(**chosen, credential=known(values["state_dir"]))
    except NotJoined:
        return _joining(chosen)
    return None


def _joining(chosen: Mapping[str, Any]) -> str | None:
    """Return the way in which a host that has not joined joins the cluster; raise `InvalidValue`."""
    unknown = "this host has not joined yet: overlayd join --help"
    try:
        credential, token = map(credential_by_hand, (CREDENTIAL, JOIN_TOKEN))
    except PermissionError as error:
        return f"{unknown}; {Path(error.filename).parent} can be read by root only: as root you see more"
    if credential and not is_encrypted(credential):
        choose(**chosen, credential=read(credential))
        return None
    found = credential or (token if chosen["controller"] else None)
    return f"this host is let in by its credential {found.name}" if found else unknown


app.command("join", cls=sources.ConfiguredCommand)(join_command.join_host)
app.add_typer(config_commands(SCHEMA, _check), name="config")
app.command("plan")(local_commands.plan)
app.command("status")(local_commands.status)
app.command("cleanup")(local_commands.cleanup)
app.add_typer(netns.app, name="netns")
app.command("install")(install.install)
app.command("install-cni")(install_cni.install_cni)
app.command("install-netavark")(install_netavark.install_netavark)
