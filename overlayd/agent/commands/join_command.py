"""`overlayd join`: from a machine with the package to a host of the cluster, in one command."""

import functools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from overlayd.agent.commands import install_cni
from overlayd.agent.commands.join import given_token, has_joined, join
from overlayd.agent.commands.options import NameOption, StateDirOption, VtepOption, WrittenConfigOption, errors_reported
from overlayd.agent.control.client import ask, status_lines
from overlayd.agent.controllers import credential
from overlayd.agent.controllers.credential import Credential, load_identity
from overlayd.agent.settings import DEFAULT_STATE_DIR, SCHEMA, check_urls
from overlayd.configuration import environment_file, sources
from overlayd.configuration.file_changes import FileChanges, check_environment_file, check_service_file, given
from overlayd.configuration.schema import Origin, Setting
from overlayd.configuration.systemd_service import Service, check_systemd
from overlayd.model.errors import AlreadyExists, InvalidValue, Unauthenticated, Unavailable
from overlayd.model.host import check_host_name, check_vtep_address
from overlayd.model.ids import HostId
from overlayd.wire.credentials import JoinToken
from overlayd.wire.fields import Fields, Json, parse_address

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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; progress goes to standard error.")] = False,
) -> None:
    """Make this machine a host of the cluster: join, start the agent, and wait until it is in sync.

    The join token comes from `overlay-controller init` or `overlayctl token create --join`. What --name and --vtep say
    is written into the agent's settings, and without --no-start what --state-dir says. It can be done again: a host
    that has joined takes over these URLs, and starts its agent.
    """
    with errors_reported(context):
        if not no_start:
            check_systemd("join with --no-start, and start `overlayd run` yourself")
            check_service_file(SCHEMA, config)
        check_urls(controllers, "URL")
        changes = FileChanges(config or SCHEMA.path, _settings(context, name, vtep))
        check_environment_file(SCHEMA, changes.values)
        if not (no_start and given(context, "state-dir")):
            changes = replace(changes, values={**changes.values, **_state_dir(context, state_dir)})
        _check_controllers(context, controllers)
        token = given_token(token_file)
        host = load_identity(state_dir).id
        say = functools.partial(typer.echo, err=as_json)
        say(_join(state_dir, controllers, token, host))
        if changes.write():
            say(f"the settings are in {changes.path}")
        status = None if no_start else _started(say, timeout)
        if as_json:
            typer.echo(json.dumps({"host": host, "settings": str(changes.path), "status": status}, indent=2))
        elif status is None:
            say("now start or restart the agent")
        else:
            say("\n".join(status_lines(Fields(status))))


def _started(say: Callable[[str], None], timeout: float) -> dict[str, Json]:
    """Start the agent, and return its status once it is in sync; raise `Unavailable` after the time limit."""
    say(f"the CNI plugin is {install_cni.ensure_plugin()}")
    SERVICE.enable()
    SERVICE.restart()
    say(f"{SERVICE.unit} is enabled and runs")
    return _in_sync(timeout).value


def _settings(context: typer.Context, name: str, vtep: str | None) -> dict[str, str | list[str]]:
    """Return the options that are written into the settings; raise `InvalidValue`."""
    found: dict[str, str | list[str]] = {}
    if given(context, "name"):
        found["name"] = check_host_name(name, "--name")
    if given(context, "vtep") and vtep is not None:
        address = parse_address(vtep, "--vtep")
        check_vtep_address(address, "--vtep")
        found["vtep"] = str(address)
    return found


def _state_dir(context: typer.Context, state_dir: Path) -> dict[str, str | list[str]]:
    """Return the setting by which the service finds the credential, if needed; raise `InvalidValue` for another one."""
    setting, file = _setting("state-dir"), SCHEMA.path.with_suffix(".env")
    place, said = SCHEMA.variable(setting), environment_file.read(file).get(SCHEMA.variable(setting))
    if said and Path(said) != state_dir.absolute():
        raise InvalidValue(f"is {said} in {file}, where the service looks: join with --state-dir {said}", field=place)
    return {setting.key: str(state_dir.absolute())} if given(context, setting.key) and not said else {}


def _check_controllers(context: typer.Context, controllers: Sequence[str]) -> None:
    """Raise `InvalidValue` when the agent's settings name other controllers, or no TLS."""
    configured = _configured(context)
    for place, urls in configured:
        for url in urls:
            if not url.startswith("https://"):
                reason = f"{url} is without TLS and takes precedence over the URLs of join: remove it"
                raise InvalidValue(reason, field=str(place))
    for place, urls in configured[:1]:
        if _comparable(urls).isdisjoint(_comparable(controllers)):
            reason = f"{' '.join(urls)} takes precedence and is none of the URLs of join: change or remove it"
            raise InvalidValue(reason, field=str(place))


def _configured(context: typer.Context) -> list[tuple[Origin, list[str]]]:
    """Return the origins and values of the setting `controller`; the one in force comes first."""
    setting, file = _setting("controller"), SCHEMA.path.with_suffix(".env")
    settings, variable = sources.configured(context), SCHEMA.variable(setting)
    in_file, in_toml = environment_file.read(file).get(variable, "").split(), settings.values.get(setting)
    found = [(Origin(variable, file), in_file)] if in_file else []
    return [*found, (settings.origins[setting], in_toml)] if isinstance(in_toml, list) else found


def _comparable(urls: Sequence[str]) -> set[str]:
    return {url.rstrip("/").lower() for url in urls}


def _setting(key: str) -> Setting:
    setting = SCHEMA.find(key)
    if setting is None:
        raise TypeError(f"the agent has no setting {key}")
    return setting


def _join(state_dir: Path, controllers: Sequence[str], token: JoinToken, host: HostId) -> str:
    """Join the host, unless it has joined; return the result."""
    before, urls = _known(state_dir), tuple(controllers)
    try:
        saved = credential.save(state_dir, join(urls, token, host))
    except (AlreadyExists, Unauthenticated):  # what a host meets that works
        if before is None or not has_joined(before, urls, token, host):
            raise
        if before.controllers == urls:
            return f"host {host} has joined already"
        saved = credential.save(state_dir, replace(before, controllers=urls))
        return f"host {host} has joined already; its controllers are now {', '.join(urls)}, as {saved} says"
    return f"joined as host {host}; the credential is in {saved}"


def _known(state_dir: Path) -> Credential | None:
    """Return the credential that this host has. A damaged one is none: joining replaces it."""
    try:
        return credential.load(state_dir)
    except InvalidValue:
        return None


def _in_sync(timeout: float) -> Fields:
    """Return the agent's status once it is in sync; raise `Unavailable` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            status = ask("status")
        except Unavailable as error:
            said = [error.detail]
        else:
            if status.flag("in_sync"):
                return status
            said = status_lines(status)
        if time.monotonic() > deadline:
            first = f"joined, but the agent is not in sync after {timeout:.0f} s:"
            raise Unavailable("\n".join((first, *said, f"journalctl --unit {SERVICE.unit} has more")))
        time.sleep(_LOOK)
