"""Where the settings of a command come from: flags before the environment, the TOML file, credentials and defaults."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import typer
from typer.core import TyperCommand

from overlayd.configuration import credentials, files, toml_file
from overlayd.configuration.schema import Schema, Setting, Value
from overlayd.configuration.toml_file import Fault
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted

_KEPT = "overlayd.configuration"
_OUTSIDE = "overlayd.configuration.outside"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: `name` is a flag, a variable, a key of a file or a credential; `line` counts from 1."""

    name: str
    file: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        """Return it as it stands before an error."""
        line = "" if self.line is None else f":{self.line}"
        return f"{self.file}{line}: {self.name}" if self.file else self.name


@dataclass(frozen=True, slots=True)
class Told:
    """What a daemon is told besides flags and environment, and where each of it stands.

    `hidden` is why credentials cannot be seen, if they cannot.
    """

    schema: Schema
    values: dict[Setting, Value]
    places: dict[Setting, Place]
    faults: tuple[Fault, ...]
    hidden: OSError | None = None


def read(
    schema: Schema,
    path: Path | None,
    find: Callable[[str], Path | None] | None = None,
    *,
    may_be_new: bool = False,
) -> Told:
    """Read a daemon's file, or the one at its usual place if there is one, and look for credentials.

    `find` returns the file of a credential, and raises `OSError`; systemd's hand-over if unset.
    """
    values: dict[Setting, Value] = {}
    places: dict[Setting, Place] = {}
    hidden = None
    for setting in filter(lambda each: each.credential, schema.settings):
        try:
            found = (find or credential)(str(setting.credential))
        except OSError as error:
            hidden = error
        else:
            if found:
                values[setting], places[setting] = str(found), Place(f"credential {setting.credential}")
    file = toml_file.read(path or schema.path, may_be_missing=path is None or may_be_new)
    faults = list(file.faults)
    for statement in file.statements:
        try:
            setting, value = schema.value(statement)
        except InvalidValue as error:
            faults.append(Fault(file.path, statement.first, statement.key, error.detail))
        else:
            values[setting], places[setting] = value, Place(setting.key, file.path, statement.first)
    return Told(schema, values, places, tuple(sorted(faults, key=lambda fault: fault.line or 0)), hidden)


def credential(name: str) -> Path | None:
    """Return the file of a credential that systemd has handed over (systemd.exec(5)), if it has; raise `OSError`."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory) / name if directory else None
    return path if path and files.is_file(path) else None


def credential_by_hand(name: str) -> Path | None:
    """Return the file of a credential for a command that looks at a service from outside.

    It is the one that systemd would hand over; raise `PermissionError` when that is for others to know.
    """
    return credential(name) if os.environ.get("CREDENTIALS_DIRECTORY") else credentials.kept(name)


def look_from_outside(context: typer.Context) -> None:
    """Let commands below this one see the credentials that a service would be handed."""
    context.meta[_OUTSIDE] = True


def reader(
    schema: Schema, *, may_be_new: bool = False, by_hand: bool = False
) -> Callable[[typer.Context, typer.CallbackParam, Path | None], Path | None]:
    """Return what an eager option ``--config`` calls: the file's values take the place of the options' defaults.

    A file that is named must be there, unless the command will make it: `may_be_new`. `by_hand`: the command is no
    daemon, and sees what credentials its service would be handed.
    What is wrong with the file is raised by `located`, once the command can tell people of it in its own way.
    """

    def take(context: typer.Context, parameter: typer.CallbackParam, path: Path | None) -> Path | None:
        found = context.get_parameter_source(str(parameter.name))
        if path and not path.is_absolute() and found and found.name == "ENVIRONMENT":
            raise Refused(_relative(path), context, Place(schema.config_variable))
        find = credential_by_hand if by_hand or _OUTSIDE in context.meta else credential
        told = read(schema, path, find, may_be_new=may_be_new)
        context.meta[_KEPT] = told
        context.default_map = {setting.parameter: value for setting, value in told.values.items()}
        return path

    return take


def option(schema: Schema, *, writes: bool = False, by_hand: bool = False) -> Any:  # noqa: ANN401 - as typer.Option
    """Return the option ``--config`` of a command that reads a daemon's file, or of one that `writes` it.

    `by_hand` is as for `reader`, and true where a command writes.
    """
    unset = f"{schema.path} if unset, where the service looks." if writes else f"{schema.path} if there is one."
    return typer.Option(
        "--config",
        envvar=schema.config_variable,
        metavar="FILE",
        is_eager=True,
        callback=reader(schema, may_be_new=writes, by_hand=writes or by_hand),
        readable=False,  # the reader tells of it
        help=f"The TOML file to write; {unset}" if writes else f"A TOML file of settings; {unset}",
        show_default=False,
    )


def told(context: typer.Context) -> Told:
    """Return what a command was told besides flags and environment."""
    found = context.meta[_KEPT]
    if not isinstance(found, Told):
        raise TypeError("the command has no option --config")
    return found


def place(context: typer.Context, setting: Setting) -> Place | None:
    """Return where the value of a setting was given, None when it is the default."""
    found = context.get_parameter_source(setting.parameter)
    match found.name if found else "":
        case "COMMANDLINE":
            return Place(setting.flag)
        case "ENVIRONMENT":
            return Place(told(context).schema.variable(setting))
        case "DEFAULT_MAP":
            return told(context).places[setting]
    return None


@contextlib.contextmanager
def located(context: typer.Context) -> Iterator[None]:
    """Let errors about flags name where the value was given: a variable, or a line of the file.

    Raises `InvalidValue` at once for the first thing that is wrong with the file, and `OSError` when credentials may be
    there that cannot be seen: without them a daemon would do something else.
    """
    for fault in told(context).faults:
        raise fault.error
    if hidden := told(context).hidden:
        raise hidden
    try:
        check_paths(context)
        yield
    except InvalidValue as error:
        raise InvalidValue(error.detail, field=_given(context, error.field)) from None


def check_paths(context: typer.Context) -> None:
    """Raise `InvalidValue` that names the flag of a relative path, unless somebody gave it as a flag."""
    for setting in told(context).schema.settings:
        value, found = context.params.get(setting.parameter), place(context, setting)
        if found and found.name != setting.flag and not setting.is_for_services(str(value)):
            raise InvalidValue(_relative(value), field=setting.flag)


def _relative(path: object) -> str:
    return f"{quoted(str(path))} is not an absolute path, and services work in another directory"


class Refused(typer.BadParameter):
    """The value of a variable is of another kind than its setting."""

    exit_code = 1

    def __init__(self, message: str, context: typer.Context, place: Place) -> None:
        super().__init__(message, context)
        self.place = place
        self._program = context.find_root().info_name

    def show(self, file: IO[Any] | None = None) -> None:
        """Tell people in the line that they get of other settings at fault: how to type the command is no help."""
        typer.echo(f"{self._program}: {self.place}: {self.message}", file=file, err=True)


class Command(TyperCommand):
    """A command with the option ``--config``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer has no name for its class
        """Read flags and all else that settings come from; raise `Refused`, or `typer.BadParameter` for a flag."""
        try:
            return super().parse_args(ctx, args)
        except Refused:
            raise
        except typer.BadParameter as error:
            schema = told(ctx).schema
            setting = schema.of_parameter(error.param.name if error.param else None)
            found = place(ctx, setting) if setting else None
            if setting is None or found is None or found.name != schema.variable(setting):
                raise
            raise Refused(setting.refusal(os.environ[found.name]), ctx, found) from None


def _given(context: typer.Context, field: str | None) -> str | None:
    """Return where the value of a flag was given; of another field the field itself."""
    setting = told(context).schema.of_flag(field)
    return str(place(context, setting) or field) if setting else field
