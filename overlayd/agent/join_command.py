"""`overlayd join`: from a machine with the package to a host of the cluster, in one command."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from overlayd.agent import credential, install_cni
from overlayd.agent.asking import ask, status_lines
from overlayd.agent.identity import load_identity
from overlayd.agent.join import given_token, has_joined, join
from overlayd.agent.options import NameOption, StateDirOption, VtepOption, WrittenConfigOption, told
from overlayd.agent.settings import DEFAULT_STATE_DIR, SCHEMA, check_urls
from overlayd.configuration import environment_file, sources
from overlayd.configuration.changes import Changes, check_environment_file, given
from overlayd.configuration.service import Service, check_systemd
from overlayd.model.errors import AlreadyExists, InvalidValue, Unauthenticated, Unavailable
from overlayd.model.host import check_host_name, check_vtep_address
from overlayd.model.ids import HostId
from overlayd.wire.credentials import JoinToken
from overlayd.wire.fields import Fields, parse_address

SERVICE = Service("overlayd.service")

_LOOK = 0.2
"""Seconds between two looks at how far the agent is."""


def join_host(
    context: typer.Context,
    controllers: Annotated[list[str], typer.Argument(metavar="URL...", help="URLs of controllers, https only.")],
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="A file with a join token; - is standard input. Without it a terminal is asked, otherwise standard "
            "input is read.",
        ),
    ] = None,
    config: WrittenConfigOption = None,
    name: NameOption = "",
    vtep: VtepOption = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    no_start: Annotated[
        bool, typer.Option("--no-start", help="Only join: leave the service and the CNI plugin alone.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long to wait until the agent is in sync.")
    ] = 60.0,
) -> None:
    """Make this machine a host of the cluster: join, start the agent, and wait until it is in sync.

    The join token comes from `overlay-controller init` or `overlayctl token create --join`. What --name and --vtep say
    is written into the agent's settings. It can be done again: a host that has joined starts its agent.
    """
    with told(context):
        if not no_start:
            check_systemd("join with --no-start, and start `overlayd run` yourself")
        check_urls(controllers, "URL")
        changes = Changes(config or SCHEMA.path, _settings(context, name, vtep))
        check_environment_file(SCHEMA, changes.values)
        _check_controllers(context)
        token = given_token(token_file)
        host = load_identity(state_dir).id
        typer.echo(_join(state_dir, controllers, token, host))
        if changes.write():
            typer.echo(f"the settings are in {changes.path}")
        if no_start:
            typer.echo("now start or restart the agent")
            return
        typer.echo(f"the CNI plugin is {install_cni.ensure_plugin()}")
        SERVICE.enable()
        SERVICE.restart()
        typer.echo(f"{SERVICE.unit} is enabled and runs")
        for line in status_lines(_in_sync(timeout).value):
            typer.echo(line)


def _settings(context: typer.Context, name: str, vtep: str | None) -> dict[str, str | list[str]]:
    """Return what was given to be kept; raise `InvalidValue`."""
    found: dict[str, str | list[str]] = {}
    if given(context, "name"):
        found["name"] = check_host_name(name, "--name")
    if given(context, "vtep") and vtep is not None:
        address = parse_address(vtep, "--vtep")
        check_vtep_address(address, "--vtep")
        found["vtep"] = str(address)
    return found


def _check_controllers(context: typer.Context) -> None:
    """Raise `InvalidValue` when the agent would go on talking to a controller without TLS, as it was told once."""
    setting = SCHEMA.find("controller")
    if setting is None:
        raise TypeError("the agent has no setting for its controllers")
    told, file = sources.told(context), SCHEMA.path.with_suffix(".env")
    in_file = environment_file.read(file).get(SCHEMA.variable(setting), "").split()
    in_toml = told.values.get(setting, [])
    found = [(url, str(file)) for url in in_file]
    found += [(url, str(told.places[setting])) for url in (in_toml if isinstance(in_toml, list) else [])]
    for url, place in found:
        if not url.startswith("https://"):
            raise InvalidValue(f"{url} is without TLS, and goes before what joining tells: remove it", field=place)


def _join(state_dir: Path, controllers: Sequence[str], token: JoinToken, host: HostId) -> str:
    """Let the host join, unless it has; return what became of it."""
    before = credential.load(state_dir)
    try:
        saved = credential.save(state_dir, join(controllers, token, host))
    except (AlreadyExists, Unauthenticated):  # what a second attempt meets, when all but the start has succeeded
        if before is None or not has_joined(before, token, host):
            raise
        return f"host {host} has joined already"
    return f"joined as host {host}; the credential is in {saved}"


def _in_sync(timeout: float) -> Fields:
    """Return the agent's status once it is in sync; raise `Unavailable` when it is not in time, in seconds."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            status = ask("status")
        except Unavailable as error:
            said = [error.detail]
        else:
            if status.flag("in_sync"):
                return status
            problems = [f"{each.text('object')}: {each.text('message')}" for each in status.objects("problems")]
            said = [*status_lines(status.value), *problems]
        if time.monotonic() > deadline:
            first = f"joined, but the agent is not in sync after {timeout:.0f} s:"
            raise Unavailable("\n".join((first, *said, f"journalctl --unit {SERVICE.unit} tells more")))
        time.sleep(_LOOK)
