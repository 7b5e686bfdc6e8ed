"""Gives the options of a command their values from all sources, and its errors the origin of a value.

Precedence, highest first: flag, environment, TOML file, systemd credential, default.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import typer
from typer.core import TyperCommand

from overlayd.configuration.schema import ConfiguredValues, Origin, Schema, Setting, read
from overlayd.configuration.systemd_credentials import credential, credential_by_hand
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted

_KEPT = "overlayd.configuration"
_OUTSIDE = "overlayd.configuration.outside"


def look_from_outside(context: typer.Context) -> None:
    """Let the subcommands of this command find the credentials that systemd would pass to the service."""
    context.meta[_OUTSIDE] = True


def reader(
    schema: Schema, *, may_be_new: bool = False, by_hand: bool = False
) -> Callable[[typer.Context, typer.CallbackParam, Path | None], Path | None]:
    """Return the callback of an eager option ``--config``, which makes the file's values the defaults of the options.

    A named file must exist, unless the command may create it (`may_be_new`). With `by_hand` the command is not the
    daemon, and finds the credentials that systemd would pass to its service. Faults of the file are raised by
    `located`, when the command runs and can report them in its own way.
    """

    def take(context: typer.Context, parameter: typer.CallbackParam, path: Path | None) -> Path | None:
        found = context.get_parameter_source(str(parameter.name))
        if path and not path.is_absolute() and found and found.name == "ENVIRONMENT":
            raise RefusedVariable(_relative(path), context, Origin(schema.config_variable))
        find = credential_by_hand if by_hand or _OUTSIDE in context.meta else credential
        values = read(schema, path, find, may_be_new=may_be_new)
        context.meta[_KEPT] = values
        context.default_map = {setting.parameter: value for setting, value in values.values.items()}
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
        readable=False,  # the reader reports an unreadable file
        help=f"The TOML file to write; {unset}" if writes else f"A TOML file of settings; {unset}",
        show_default=False,
    )


def configured(context: typer.Context) -> ConfiguredValues:
    """Return the values that a command has from its TOML file and from credentials."""
    found = context.meta[_KEPT]
    if not isinstance(found, ConfiguredValues):
        raise TypeError("the command has no option --config")
    return found


def origin(context: typer.Context, setting: Setting) -> Origin | None:
    """Return the origin of a setting's value, None for a default."""
    found = context.get_parameter_source(setting.parameter)
    match found.name if found else "":
        case "COMMANDLINE":
            return Origin(setting.flag)
        case "ENVIRONMENT":
            return Origin(configured(context).schema.variable(setting))
        case "DEFAULT_MAP":
            return configured(context).origins[setting]
    return None


@contextlib.contextmanager
def located(context: typer.Context) -> Iterator[None]:
    """Make errors in the `with` block name the origin of a value instead of its flag.

    Before, raises `InvalidValue` for the first fault of the file, and `OSError` when credentials cannot be read,
    because the daemon would behave differently without them.
    """
    for fault in configured(context).faults:
        raise fault.error
    if hidden := configured(context).hidden:
        raise hidden
    try:
        check_paths(context)
        yield
    except InvalidValue as error:
        raise InvalidValue(error.detail, field=_given(context, error.field)) from None


def check_paths(context: typer.Context) -> None:
    """Raise `InvalidValue` with the flag of a setting whose value is a relative path and was not given by a flag."""
    for setting in configured(context).schema.settings:
        value = setting.converted(context.params.get(setting.parameter))
        found = origin(context, setting)
        if found and found.name != setting.flag and not setting.is_for_services(str(value)):
            raise InvalidValue(_relative(value), field=setting.flag)


def _relative(path: object) -> str:
    return f"{quoted(str(path))} is not an absolute path, and a service runs in another directory"


class RefusedVariable(typer.BadParameter):
    """The value of a variable has the wrong type."""

    exit_code = 1

    def __init__(self, message: str, context: typer.Context, origin: Origin) -> None:
        super().__init__(message, context)
        self.origin = origin
        self._program = context.find_root().info_name

    def show(self, file: IO[Any] | None = None) -> None:
        """Print one line, like the errors about other settings. The usage of the command would not help."""
        typer.echo(f"{self._program}: {self.origin}: {self.message}", file=file, err=True)


class ConfiguredCommand(TyperCommand):
    """A command with the option ``--config``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer has no name for its class
        """Parse flags and other sources of settings; raise `RefusedVariable`, or `typer.BadParameter` for a flag."""
        try:
            return super().parse_args(ctx, args)
        except RefusedVariable:
            raise
        except typer.BadParameter as error:
            schema = configured(ctx).schema
            setting = schema.of_parameter(error.param.name if error.param else None)
            found = origin(ctx, setting) if setting else None
            if setting is None or found is None or found.name != schema.variable(setting):
                raise
            raise RefusedVariable(setting.refusal(os.environ[found.name]), ctx, found) from None


def _given(context: typer.Context, field: str | None) -> str | None:
    """Return the origin of a value if `field` is a flag; return any other field unchanged."""
    setting = configured(context).schema.of_flag(field)
    return str(origin(context, setting) or field) if setting else field
