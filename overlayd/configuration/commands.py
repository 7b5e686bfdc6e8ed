"""`config check` and `config show`: what a daemon would do with its settings, without starting it."""

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
from overlayd.configuration.schema import Schema, Setting, Value
from overlayd.model.errors import InvalidValue

Check = Callable[[Mapping[str, Any]], str | None]
"""What looks at the values of all settings, by the names of their parameters.

It raises `InvalidValue` or `OSError`, and returns what else people should know.
"""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FileArgument = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The TOML file; if unset the service's, with the variables that its unit gives it.",
        readable=False,  # a problem as others are
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong. `file`, `line` and `key` say where, as far as it is known."""

    file: str | None
    line: int | None
    key: str | None
    message: str

    @classmethod
    def at(cls, place: sources.Place, message: str) -> "Problem":
        return cls(str(place.file) if place.file else None, place.line, place.name, message)

    def __str__(self) -> str:
        """Return it as a daemon would say it at its start."""
        line = "" if self.line is None else f":{self.line}"
        places = [f"{self.file}{line}" if self.file else None, self.key]
        return ": ".join([*filter(None, places), self.message])


class Unresolved(Exception):
    """What a service would do cannot be told at all; its argument is the `Problem`."""

    def __init__(self, problem: Problem) -> None:
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
        return {setting.parameter: self._context.params[setting.parameter] for setting in self._schema.settings}

    @property
    def hidden(self) -> Path | None:
        """A directory of credentials that cannot be looked into."""
        why = sources.told(self._context).hidden
        return Path(why.filename).parent if why else None

    def place(self, setting: Setting) -> sources.Place | None:
        """Return where a value was given, None when it is the default."""
        found = sources.place(self._context, setting)
        return _in_file(found, self._variables, self._file) if found else None

    def problems(self, check: Check) -> tuple[list[Problem], str | None]:
        """Return everything that is wrong with the file, or else the first thing that is wrong with the values."""
        faults = sources.told(self._context).faults
        if faults:
            return [Problem(str(each.path), each.line, each.key, each.detail) for each in faults], None
        try:
            sources.check_paths(self._context)
            return [], check(self.values)
        except InvalidValue as error:
            setting = self._schema.of_flag(error.field)
            place = self.place(setting) if setting else None
            if place is None:
                return [Problem(None, None, error.field, error.detail)], None
            return [Problem.at(place, error.detail)], None
        except OSError as error:
            return [Problem(error.filename, None, None, error.strerror or str(error))], None


def commands(schema: Schema, check: Check) -> typer.Typer:
    """Return the commands below ``config`` of a daemon whose command is ``run``."""
    app = typer.Typer(help="The settings: where each comes from, and whether they are right.", no_args_is_help=True)

    @app.command("check")
    def check_settings(
        context: typer.Context,
        config: FileArgument = None,
        as_json: AsJson = False,  # noqa: FBT002 - typer's flags
    ) -> None:
        """Look whether the service could start with its settings; nothing is changed."""
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
            typer.echo(f"the settings are right{f'; {note}' if note else ''}")
        if problems:
            raise typer.Exit(1)

    @app.command("show")
    def show_settings(
        context: typer.Context,
        config: FileArgument = None,
        as_json: AsJson = False,  # noqa: FBT002 - typer's flags
    ) -> None:
        """Show every setting as the service would have it, and where it comes from; the output is a TOML file.

        What `check` finds wrong is told too.
        """
        try:
            with resolved(schema, context, config) as found:
                values = {setting: _plain(found.values[setting.parameter]) for setting in schema.settings}
                places = {setting: found.place(setting) for setting in schema.settings}
                problems, _ = found.problems(check)
                _mention(found.hidden, context)
            _show(values, places, as_json=as_json)
        except Unresolved as error:
            problems = [error.problem]
        if problems:
            _complain(problems, context)
            raise typer.Exit(1)

    return app


@contextlib.contextmanager
def resolved(schema: Schema, context: typer.Context, config: Path | None) -> Iterator[Resolved]:
    """Let the daemon's command read its settings, as far as its own code; raise `Unresolved`."""
    program = context.find_root().command
    if not isinstance(program, TyperGroup):
        raise TypeError("the program has no commands")
    path = schema.path.with_suffix(".env")
    try:
        variables = {} if config else environment_file.read(path)
    except OSError as error:
        raise Unresolved(Problem(str(path), None, None, f"cannot be read: {error.strerror}")) from None
    with _environment(variables) as added:
        try:
            sources.look_from_outside(context)
            found = program.commands["run"].make_context("run", ["--config", str(config)] if config else [], context)
        except sources.Refused as error:
            raise Unresolved(Problem.at(_in_file(error.place, added, path), error.message)) from None
        with found:
            yield Resolved(schema, cast("typer.Context", found), added, path)


def _in_file(place: sources.Place, variables: Mapping[str, str], file: Path) -> sources.Place:
    """Return the place of a variable that comes from the service's file."""
    return sources.Place(place.name, file) if place.name in variables else place


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Have these variables in the environment, unless others of their names are there; yield those that were added."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield added
    finally:
        for name in added:
            del os.environ[name]


def _plain(value: Any) -> Value | None:  # noqa: ANN401 - whatever an option has
    if isinstance(value, list | tuple):
        return [str(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _origin(place: sources.Place | None) -> str:
    if place is None:
        return "default"
    return str(place) if place.line is None else f"{place.file}:{place.line}"


def _mention(hidden: Path | None, context: typer.Context) -> None:
    if hidden:
        say = f"credentials in {hidden} are left out, as they are not for everybody: run this as root"
        typer.echo(f"{context.find_root().info_name}: {say}", err=True)


def _complain(problems: Sequence[Problem], context: typer.Context) -> None:
    for problem in problems:
        typer.echo(f"{context.find_root().info_name}: {problem}", err=True)


def _show(
    values: Mapping[Setting, Value | None], places: Mapping[Setting, sources.Place | None], *, as_json: bool
) -> None:
    if as_json:
        shown = {each.key: {"value": value, "from": _origin(places[each])} for each, value in values.items()}
        typer.echo(json.dumps(shown, indent=2))
        return
    for setting, value in values.items():
        if value is None or value in ("", []):
            typer.echo(f"# {setting.key} is not set")
        else:
            typer.echo(f"{toml_file.rendered(setting.key, value)}  # {_origin(places[setting])}")
