"""Where a setting comes from: one precedence, and errors that name the place."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from overlayd.configuration import sources
from overlayd.configuration.schema import Schema, Setting, ValueKind, read
from overlayd.model.errors import InvalidValue

SCHEMA = Schema(
    "PROG",
    Path("/nonexistent/prog.toml"),
    (
        Setting("name"),
        Setting("level", choices=("low", "high")),
        Setting("listen", ValueKind.TEXTS),
        Setting("size", ValueKind.INTEGER),
        Setting("share", ValueKind.NUMBER),
        Setting("opened", ValueKind.SWITCH),
        Setting("key-file", ValueKind.PATH, credential="prog.key"),
    ),
)

app = typer.Typer(rich_markup_mode=None)

Config = Annotated[Path | None, sources.option(SCHEMA)]


@app.command(cls=sources.ConfiguredCommand)
def run(  # noqa: PLR0913, PLR0917 - each option is an argument
    context: typer.Context,
    _config: Config = None,
    name: Annotated[str, typer.Option(envvar="PROG_NAME")] = "nobody",
    level: Annotated[str, typer.Option(envvar="PROG_LEVEL")] = "low",
    listen: Annotated[list[str] | None, typer.Option(envvar="PROG_LISTEN")] = None,
    size: Annotated[int, typer.Option(envvar="PROG_SIZE")] = 1,
    share: Annotated[float, typer.Option(envvar="PROG_SHARE")] = 0.5,
    opened: Annotated[bool, typer.Option("--opened", envvar="PROG_OPENED")] = False,  # noqa: FBT002 - typer's flags
    key_file: Annotated[Path | None, typer.Option(envvar="PROG_KEY_FILE")] = None,
) -> None:
    with sources.located(context):
        if size < 0:
            raise InvalidValue("is negative", field="--size")
        if name == "elsewhere":
            raise InvalidValue("is damaged", field="/some/file")
    shown: dict[str, object] = {
        "name": name,
        "level": level,
        "listen": listen,
        "size": size,
        "share": share,
        "opened": opened,
    }
    places = {each.key: str(sources.origin(context, each)) for each in SCHEMA.settings[:4]}
    shown |= {"key": str(key_file), "from": places}
    typer.echo(json.dumps(shown))


class Invocation:
    """A file, an environment and flags, and what the program makes of them."""

    def __init__(self, directory: Path, text: str, *flags: str, **environment: str) -> None:
        self.path = directory / "prog.toml"
        self.path.write_text(text)
        environment = {"CREDENTIALS_DIRECTORY": "", **environment}
        self.result = CliRunner().invoke(app, ["--config", str(self.path), *flags], env=environment)

    @property
    def shown(self) -> Mapping[str, object]:
        assert self.result.exit_code == 0, self.result.output
        found = json.loads(self.result.output)
        assert isinstance(found, dict)
        return found

    @property
    def error(self) -> str:
        assert isinstance(self.result.exception, InvalidValue), self.result.output
        return str(self.result.exception).replace(str(self.path), "FILE")


def test_a_flag_is_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    text = '# mine\nname = "file"\nlevel = "high"\nlisten = "a"\nsize = 2\nshare = 3\nopened = true\n'
    invocation = Invocation(tmp_path, text, "--name", "flag", PROG_NAME="variable", PROG_LISTEN="b c")
    assert invocation.shown == {
        "name": "flag",
        "level": "high",
        "listen": ["b", "c"],
        "size": 2,
        "share": 3.0,
        "opened": True,
        "key": "None",
        "from": {
            "name": "--name",
            "level": f"{invocation.path}:3: level",
            "listen": "PROG_LISTEN",
            "size": f"{invocation.path}:5: size",
        },
    }


def test_without_anything_defaults_hold(tmp_path: Path) -> None:
    shown = Invocation(tmp_path, "").shown
    assert (shown["name"], shown["listen"], shown["opened"]) == ("nobody", None, False)
    assert shown["from"] == dict.fromkeys(("name", "level", "listen", "size"), "None")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('\nnaem = "x"', "FILE:2: naem: there is no such setting; did you mean name?"),
        ('key_file = "x"', "FILE:1: key_file: there is no such setting; did you mean key-file?"),
        (
            'xyz = "x"',
            "FILE:1: xyz: there is no such setting; they are key-file, level, listen, name, opened, share, size",
        ),
        ("name = 5", "FILE:1: name: expected a string, not 5"),
        ('level = "middle"', "FILE:1: level: 'middle' is not one of low, high"),
        ("listen = []", "FILE:1: listen: expected strings, not []"),
        ('listen = ["a", 5]', "FILE:1: listen: expected strings, not ['a', 5]"),
        ('size = "5"', "FILE:1: size: expected an integer, not '5'"),
        ("size = true", "FILE:1: size: expected an integer, not true"),
        ("size = 5.5", "FILE:1: size: expected an integer, not 5.5"),
        ("share = true", "FILE:1: share: expected a number, not true"),
        ("opened = 1", "FILE:1: opened: expected true or false, not 1"),
        ("size = 1979-05-27", "FILE:1: size: expected an integer, not datetime.date(1979, 5, 27)"),
        ("\n\nsize = -5", "FILE:3: size: is negative"),
        ("size = 5\nsize = -5", "FILE:2: size: is set in line 1 already"),
        ('name = "elsewhere"', "/some/file: is damaged"),
        ("name", "FILE:1: is no TOML: Expected '=' after a key in a key/value pair"),
    ],
)
def test_an_error_names_file_line_and_key(tmp_path: Path, text: str, error: str) -> None:
    assert Invocation(tmp_path, text).error == error


def test_an_error_names_the_flag_or_the_variable_that_is_at_fault(tmp_path: Path) -> None:
    assert Invocation(tmp_path, "size = 5", "--size", "-1").error == "--size: is negative"
    assert Invocation(tmp_path, "size = 5", PROG_SIZE="-1").error == "PROG_SIZE: is negative"


def test_a_credential_of_systemd_is_the_file_where_nothing_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "prog.key").write_text("secret")
    directory = str(tmp_path)
    assert Invocation(tmp_path, "", CREDENTIALS_DIRECTORY=directory).shown["key"] == f"{tmp_path}/prog.key"
    assert Invocation(tmp_path, 'key-file = "/x"', CREDENTIALS_DIRECTORY=directory).shown["key"] == "/x"
    assert Invocation(tmp_path, "", CREDENTIALS_DIRECTORY=directory, PROG_KEY_FILE="/y").shown["key"] == "/y"
    assert Invocation(tmp_path, "", CREDENTIALS_DIRECTORY=f"{tmp_path}/none").shown["key"] == "None"


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--config", str(tmp_path / "missing")])
    assert str(done.exception) == f"{tmp_path}/missing: cannot be read: No such file or directory"
    assert CliRunner().invoke(app, []).exit_code == 0, "the usual one need not"


def test_the_usual_file_is_not_passed_over_when_nobody_can_tell_whether_it_is_there() -> None:
    path = Path(f"/{'x' * 300}")
    (fault,) = read(Schema("PROG", path, ()), None).faults
    assert str(fault.error) == f"{path}: cannot be read: File name too long"


def test_a_credential_that_cannot_be_seen_is_not_taken_for_none(tmp_path: Path) -> None:
    nowhere = f"/{'x' * 300}"
    done = Invocation(tmp_path, "", CREDENTIALS_DIRECTORY=nowhere).result
    assert str(done.exception) == f"[Errno 36] File name too long: '{nowhere}/prog.key'"


def test_only_who_gives_a_flag_means_the_directory_at_hand(tmp_path: Path) -> None:
    why = "'x' is not an absolute path, and a service runs in another directory"
    assert Invocation(tmp_path, "", "--key-file", "x").shown["key"] == "x"
    assert Invocation(tmp_path, '\nkey-file = "x"').error == f"FILE:2: key-file: {why}"
    assert Invocation(tmp_path, "", PROG_KEY_FILE="x").error == f"PROG_KEY_FILE: {why}"
    done = CliRunner().invoke(app, [], env={"PROG_CONFIG": "x"})
    assert (done.exit_code, done.stderr) == (1, f"run: PROG_CONFIG: {why}\n")
