"""The commands `config check` and `config show`, which read a daemon's settings as it would, without starting it."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from overlayd.configuration import environment_file, sources, toml_file
from overlayd.configuration.help_pages import PlainGroup
from overlayd.configuration.schema import Origin, Schema, Setting, Value
from overlayd.model.errors import InvalidValue

Check = Callable[[Mapping[str, Any]], str | None]
"""Checks the values of all settings, which it gets by the names of their parameters.

It raises `InvalidValue` or `OSError`, or returns a note for the user, if there is one.
"""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FileArgument = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The TOML file; if unset that of the service, with the variables of its environment file.",
        readable=False,  # an unreadable file is reported like the other problems
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """A fault in a daemon's settings, with its file, line and key as far as they are known."""

    file: str | None
    line: int | None
    key: str | None
    message: str

    @classmethod
    def at(cls, origin: Origin, message: str) -> "SettingProblem":
        return cls(str(origin.file) if origin.file else None, origin.line, origin.name, message)

    def __str__(self) -> str:
        """Return the text that the daemon would print at its start."""
        line = "" if self.line is None else f":{self.line}"
        origins = [f"{self.file}{line}" if self.file else None, self.key]
        return ": ".join([*filter(None, origins), self.message])


class Unresolved(Exception):
    """The settings of a service cannot be determined, because of `problem`."""

    def __init__(self, problem: SettingProblem) -> None:
        super().__init__(problem)
        self.problem = problem


class Resolved:
    """The settings of a daemon as its service would have them."""

    def __init__(self, schema: Schema, context: typer.Context, variables: Mapping[str, str], file: Path) -> None:
        self._schema = schema
        self._context = context
        self._variables = variables
        self._file = file

    @property
    def values(self) -> dict[str, Any]:
        """The values of all settings, by the names of their parameters."""
        params = self._context.params
        return {each.parameter: each.converted(params[each.parameter]) for each in self._schema.settings}

    @property
    def hidden(self) -> Path | None:
        """The directory of credentials that this process may not read, if there is one."""
        why = sources.configured(self._context).hidden
        return Path(why.filename).parent if why else None

    def origin(self, setting: Setting) -> Origin | None:
        """Return the origin of a value, None for a default."""
        found = sources.origin(self._context, setting)
        return _in_file(found, self._variables, self._file) if found else None

    def problems(self, check: Check) -> tuple[list[SettingProblem], str | None]:
        """Return all faults of the file, or without any the first fault of the values, and the note of `check`."""
        faults = sources.configured(self._context).faults
        if faults:
            return [SettingProblem(str(each.path), each.line, each.key, each.detail) for each in faults], None
        try:
            sources.check_paths(self._context)
            return [], check(self.values)
        except InvalidValue as error:
            setting = self._schema.of_flag(error.field)
            origin = self.origin(setting) if setting else None
            if origin is None:
                return [SettingProblem(None, None, error.field, error.detail)], None
            return [SettingProblem.at(origin, error.detail)], None
        except OSError as error:
            return [SettingProblem(error.filename, None, None, error.strerror or str(error))], None


def commands(schema: Schema, check: Check) -> typer.Typer:
    """Return the commands below ``config`` of a daemon whose command is ``run``."""
    app = typer.Typer(cls=PlainGroup, help="Show the settings and their origins, and check them.", no_args_is_help=True)

    @app.command("check")
    def check_settings(
        context: typer.Context,
        config: FileArgument = None,
        as_json: AsJson = False,  # noqa: FBT002 - typer's flags
    ) -> None:
        """Check whether the service could start with its settings. Nothing is changed."""
        try:
            with resolved(schema, context, config) as found:
                problems, note = found.problems(check)
                _mention(found.hidden, context)
        except Unresolved as error:
            problems, note = [error.problem], None
        if as_json:
            typer.echo(json.dumps({"ok": not problems, "problems": [*map(asdict, problems)], "note": note}, indent=2))
        elif problems:
            _complain(problems, context)
        else:
            typer.echo(f"the settings are valid{f'; {note}' if note else ''}")
        if problems:
            raise typer.Exit(1)

    @app.command("show")
    def show_settings(
        context: typer.Context,
        config: FileArgument = None,
        as_json: AsJson = False,  # noqa: FBT002 - typer's flags
    ) -> None:
        """Show every setting as the service would have it, with its origin, in the form of a TOML file.

        Problems that `check` finds are printed too.
        """
        try:
            with resolved(schema, context, config) as found:
                values = {setting: _plain(found.values[setting.parameter]) for setting in schema.settings}
                origins = {setting: found.origin(setting) for setting in schema.settings}
                problems, _ = found.problems(check)
                _mention(found.hidden, context)
            _show(values, origins, as_json=as_json)
        except Unresolved as error:
            problems = [error.problem]
        if problems:
            _complain(problems, context)
            raise typer.Exit(1)

    return app


@contextlib.contextmanager
def resolved(schema: Schema, context: typer.Context, config: Path | None) -> Iterator[Resolved]:
    """Let the daemon's command parse its settings, without running it; raise `Unresolved`."""
    program = context.find_root().command
    if not isinstance(program, TyperGroup):
        raise TypeError("the program has no commands")
    path = schema.path.with_suffix(".env")
    try:
        variables = {} if config else environment_file.read(path)
    except OSError as error:
        raise Unresolved(SettingProblem(str(path), None, None, f"cannot be read: {error.strerror}")) from None
    with _environment(variables) as added:
        try:
            sources.look_from_outside(context)
            found = program.commands["run"].make_context("run", ["--config", str(config)] if config else [], context)
        except sources.RefusedVariable as error:
            raise Unresolved(SettingProblem.at(_in_file(error.origin, added, path), error.message)) from None
        with found:
            yield Resolved(schema, cast("typer.Context", found), added, path)


def _in_file(origin: Origin, variables: Mapping[str, str], file: Path) -> Origin:
    """Return the origin of a value, with the service's environment file if the variable comes from there."""
    return Origin(origin.name, file) if origin.name in variables else origin


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Add variables to the environment unless they are set there; yield those that were added."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield added
    finally:
        for name in added:
            del os.environ[name]


def _plain(value: Any) -> Value | None:  # noqa: ANN401 - the value of any option
    if isinstance(value, list | tuple):
        return [str(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _shown_origin(origin: Origin | None) -> str:
    if origin is None:
        return "default"
    return str(origin) if origin.line is None else f"{origin.file}:{origin.line}"


def _mention(hidden: Path | None, context: typer.Context) -> None:
    if hidden:
        say = f"credentials in {hidden} are left out, because only root can read them: run this command as root"
        typer.echo(f"{context.find_root().info_name}: {say}", err=True)


def _complain(problems: Sequence[SettingProblem], context: typer.Context) -> None:
    for problem in problems:
        typer.echo(f"{context.find_root().info_name}: {problem}", err=True)


def _show(values: Mapping[Setting, Value | None], origins: Mapping[Setting, Origin | None], *, as_json: bool) -> None:
    if as_json:
        shown = {each.key: {"value": value, "from": _shown_origin(origins[each])} for each, value in values.items()}
        typer.echo(json.dumps(shown, indent=2))
        return
    for setting, value in values.items():
        if value is None or value in ("", []):
            typer.echo(f"# {setting.key} is not set")
        else:
            typer.echo(f"{toml_file.rendered(setting.key, value)}  # {_shown_origin(origins[setting])}")
