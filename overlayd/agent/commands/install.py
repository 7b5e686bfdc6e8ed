"""`overlayd install`: installs what a machine needs in addition to this program's environment."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from overlayd.agent.commands.cleanup import check_unused
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.configuration.files import exists, is_directory
from overlayd.configuration.systemd_service import Service, is_systemd_here, reload_units
from overlayd.installation.files import UNITS, files, put, take_away, under
from overlayd.installation.layout import Layout, beside, packages_unit
from overlayd.installation.programs import MachineRole
from overlayd.model.errors import InUse, InvalidValue, OverlayError, Unavailable

SHIPPED = Path("share/overlayd")
"""Below the environment: the units and drop-ins that came with the wheel."""

_PLAIN = re.compile(r"/[A-Za-z0-9/._-]+", re.ASCII)
"""Directories of which a unit can name a program as it stands."""

_ATTACHMENTS = Path("run/overlayd/attachments")

SETTINGS = Path("/etc/overlayd")
"""The directory of the files of settings, of which none is shipped."""

NETWORK_SERVICES = ("systemd-networkd.service", "NetworkManager.service")
"""The network services that the drop-ins keep off our devices."""


def install(
    roles: Annotated[
        list[MachineRole] | None,
        typer.Argument(metavar="[controller] [agent]", show_default=False, help="What this machine is for; both."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Stop the services and take it all away again.")] = False,
    cut_off: Annotated[
        bool, typer.Option("--cut-off", help="With --remove, also when containers are attached.")
    ] = False,
    root: Annotated[Path, typer.Option(metavar="DIRECTORY", help="Where the machine's files begin.")] = Path("/"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Install units, drop-ins, commands, the CNI plugin, manual pages and completion for this environment.

    For an environment into which pip has installed overlayd. Nothing is started; services that run are restarted, and
    traffic does not stop. Settings, and the directories of the services, are not touched.
    """
    wanted = frozenset(roles or MachineRole)
    try:
        paths = _remove(wanted, root, cut_off=cut_off) if remove else _install(wanted, root)
        if as_json:
            typer.echo(json.dumps({"removed" if remove else "installed": [str(path) for path in paths]}, indent=2))
        for path in () if as_json else paths:
            typer.echo(path)
        if not remove:
            _take_up(wanted, root)
    except (OverlayError, OSError) as error:
        typer.echo(f"overlayd: {error}", err=True)
        sys.exit(1)


def _install(roles: frozenset[MachineRole], root: Path) -> list[Path]:
    """Install the files, and return their paths."""
    if unit := packages_unit(root):
        raise InUse(f"{unit} is there: remove the package of which it is first, or use that")
    made = list(put(files(roles, beside(_programs()), _shipped()), root))
    _make_settings(under(root, SETTINGS))
    return made


def _take_up(roles: frozenset[MachineRole], root: Path) -> None:
    """Let running services use the installed files."""
    if _is_this_machine(root):
        reload_units()
        if MachineRole.AGENT in roles:
            _show_drop_ins()
        _renew(_installed(beside(_programs()), root))  # the other role's service runs from the same environment


def _show_drop_ins() -> None:
    """Let the network services that are running read the drop-ins."""
    for service in filter(lambda each: each.is_ready, map(Service, NETWORK_SERVICES)):
        try:
            service.reload()
        except Unavailable as error:  # they will have at the next boot
            typer.echo(f"overlayd: {service.unit} does not yet know to leave our devices alone: {error}", err=True)


def _renew(roles: frozenset[MachineRole]) -> None:
    """Restart the running services, controllers first; raise `Unavailable` at the end for those that failed."""
    failures = []
    for service in (Service(UNITS[role]) for role in MachineRole if role in roles):
        try:
            if not service.renew():
                typer.echo(
                    f"overlayd: {service.unit} is not ready yet, and goes on: journalctl --unit {service.unit}",
                    err=True,
                )
        except Unavailable as error:
            failures.append(str(error))
    if failures:
        raise Unavailable("\n".join(failures))


def _remove(roles: frozenset[MachineRole], root: Path, *, cut_off: bool) -> list[Path]:
    """Stop the services and remove the files; return their paths."""
    if MachineRole.AGENT in roles and not cut_off:
        records = AttachmentRecords(root / _ATTACHMENTS)
        records.load()
        check_unused(records, ())
    places, shipped = beside(_programs()), _shipped()
    packaged = packages_unit(root) is not None
    if packaged:
        places = replace(places, plugins=())  # they are the package's
    installed = _installed(places, root)
    shared = {file.path for file in files(installed - roles, places, shipped)}
    unwanted = [file for file in files(roles, places, shipped) if file.path not in shared]
    if _is_this_machine(root):
        for role in sorted(roles & installed):
            Service(UNITS[role]).disable()
    gone = list(take_away(unwanted, root))
    if not packaged and not _installed(places, root):
        _remove_settings(under(root, SETTINGS))
    if _is_this_machine(root):
        reload_units()
    return gone


def _make_settings(directory: Path) -> None:
    """Make the directory for settings, which the controller reads as a user of its own."""
    if not exists(directory):
        directory.mkdir(parents=True)
        directory.chmod(0o755)  # whatever the umask is


def _remove_settings(directory: Path) -> None:
    if exists(directory) and not any(directory.iterdir()):
        directory.rmdir()


def _is_this_machine(root: Path) -> bool:
    return root == Path("/") and is_systemd_here()


def _installed(places: Layout, root: Path) -> frozenset[MachineRole]:
    """Return the roles that this machine has, by their units."""
    return frozenset(role for role, unit in UNITS.items() if exists(under(root, places.units) / unit))


def _programs() -> Path:
    """Return the directory of this environment's programs; raises `InvalidValue` when no unit could name it."""
    programs = Path(sys.prefix) / "bin"
    if not _PLAIN.fullmatch(str(programs)):
        raise InvalidValue(f"{programs} has characters that a unit would have to quote: use another directory")
    return programs


def _shipped() -> Path:
    """Return the directory of the wheel's units and drop-ins; raise `InvalidValue` if no wheel was installed."""
    shipped = Path(sys.prefix) / SHIPPED
    if not is_directory(shipped):
        raise InvalidValue(f"{shipped} is not there: install overlayd with pip. A Debian package needs no such step")
    return shipped
