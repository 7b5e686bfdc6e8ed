"""`config check` and `config show` of both daemons."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner, Result

import controller.main
import overlayd.agent.program
from overlayd.configuration import commands, sources
from overlayd.configuration.schema import Schema, Setting, ValueKind
from overlayd.model.errors import InvalidValue

RELATIVE = "is not an absolute path, and a service runs in another directory"

AGENT, CONTROLLER = overlayd.agent.program.app, controller.main.app


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def service_of(path: Path) -> typer.Typer:
    """Return a daemon whose service reads this file, and the variables beside it."""
    schema = Schema("PROG", path, (Setting("size", ValueKind.INTEGER), Setting("names", ValueKind.TEXTS)))
    app = typer.Typer()

    @app.command(cls=sources.ConfiguredCommand)
    def run(
        _config: Annotated[Path | None, sources.option(schema)] = None,
        size: Annotated[int, typer.Option(envvar="PROG_SIZE")] = 1,
        names: Annotated[list[str] | None, typer.Option(envvar="PROG_NAMES")] = None,
    ) -> None:
        raise AssertionError((size, names))

    def check(values: Mapping[str, Any]) -> None:
        if values["size"] < 0:
            raise InvalidValue("is negative", field="--size")

    app.add_typer(commands.commands(schema, check), name="config")
    return app


def typed(app: typer.Typer, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["config", *arguments], env=environment)


def checked(app: typer.Typer, file: Path, **environment: str) -> dict[str, Any]:
    done = typed(app, "check", "--config", str(file), "--json", **environment)
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    assert done.exit_code == (not found["ok"])
    return found


def test_settings_that_are_right(file: Path, tmp_path: Path) -> None:
    file.write_text(f'controller = "http://10.0.0.1:7471"\nstate-dir = "{tmp_path}"\n')
    assert checked(AGENT, file) == {"ok": True, "problems": [], "note": None}
    file.write_text(f'controller = "https://10.0.0.1:7471"\nstate-dir = "{tmp_path}"\n')
    assert checked(AGENT, file)["note"] == "this host has not joined yet: overlayd join --help"
    file.write_text('store = "etcd://127.0.0.1:1"\nlisten = ["0.0.0.0:1"]\n')
    assert checked(CONTROLLER, file) == {"ok": True, "problems": [], "note": None}
    assert typed(CONTROLLER, "check", "--config", str(file)).stdout == "the settings are valid\n"


@pytest.mark.parametrize(
    ("app", "text", "line", "key", "message"),
    [
        (AGENT, "\nresync = 0", 2, "resync", "0 is not in 1..86400 seconds"),
        (AGENT, "resync = 1e-9", 1, "resync", "1e-09 is not in 1..86400 seconds"),
        (AGENT, "resync = nan", 1, "resync", "nan is not in 1..86400 seconds"),
        (AGENT, "vxlan-port = 70000", 1, "vxlan-port", "70000 is not in 1..65535"),
        (AGENT, 'controller = ["a"]', 1, "controller", "'a' is not a URL such as https://10.0.0.1:7471"),
        (AGENT, 'name = "a\\nb"', 1, "name", "'a\\nb' must have 1 to 253 printable characters"),
        (AGENT, 'log-level = "loud"', 1, "log-level", "'loud' is not one of debug, info, warning, error"),
        (CONTROLLER, '\n\nlisten = "here"', 3, "listen", "'here' is neither HOST:PORT nor fd:N"),
        (CONTROLLER, "quarantine = 0", 1, "quarantine", "0 is not in 1..86400 seconds"),
        (CONTROLLER, "history-days = inf", 1, "history-days", "inf is not above 0 and up to 36500 days"),
        (CONTROLLER, 'store = ""', 1, "store", f"'' {RELATIVE}"),
        (CONTROLLER, '\nstore = "store.db"', 2, "store", f"'store.db' {RELATIVE}"),
        (CONTROLLER, "store = 5", 1, "store", "expected a path or a URL, not 5"),
        (CONTROLLER, 'admin-token-file = "./a"', 1, "admin-token-file", f"'a' {RELATIVE}"),
        (AGENT, 'state-dir = ""', 1, "state-dir", f"'.' {RELATIVE}"),
        (CONTROLLER, 'store = "/nonexistent/x"', 1, "store", "there is no directory /nonexistent"),
        (CONTROLLER, 'tls-cert = "/x"', 1, "tls-cert", "goes with --tls-key"),
        (CONTROLLER, 'tls-key = "/y"\ntls-cert = "/x"', 2, "tls-cert", "there is no file /x"),
        (CONTROLLER, '\ntls-name = ["a", "b c"]', 2, "tls-name", "'b c' is neither an address nor a DNS name"),
        (CONTROLLER, 'etcd-ca = "/x"\nstore = "etcds://a"', 1, "etcd-ca", "there is no file /x"),
        (CONTROLLER, "[tls]", 1, "tls", "there are no tables here: each setting has one key"),
    ],
)
def test_a_problem_has_its_file_line_and_key(  # noqa: PLR0913, PLR0917 - the parts of a case
    file: Path, app: typer.Typer, text: str, line: int, key: str, message: str
) -> None:
    file.write_text(text)
    found = checked(app, file)["problems"]
    assert found == [{"file": str(file), "line": line, "key": key, "message": message}]
    shown = typed(app, "check", "--config", str(file)).stderr
    assert shown.endswith(f": {file}:{line}: {key}: {message}\n")


def test_every_fault_of_a_file_is_told(file: Path) -> None:
    file.write_text("a = 1\nb = 2\nresync = 'x'\n")
    assert [problem["line"] for problem in checked(AGENT, file)["problems"]] == [1, 2, 3]


def test_a_variable_is_named(file: Path) -> None:
    file.write_text("resync = 5")
    (problem,) = checked(AGENT, file, OVERLAYD_RESYNC="0")["problems"]
    assert (problem["file"], problem["key"]) == (None, "OVERLAYD_RESYNC")
    assert checked(AGENT, file, OVERLAYD_RESYNC="soon")["problems"] == [
        {"file": None, "line": None, "key": "OVERLAYD_RESYNC", "message": "expected a number, not 'soon'"}
    ]


def test_a_variable_of_the_services_file_is_named_with_the_file(file: Path) -> None:
    app, variables = service_of(file), file.with_suffix(".env")
    for value, message in (("large", "expected an integer, not 'large'"), ("-1", "is negative")):
        variables.write_text(f"PROG_NAMES=a b\nPROG_SIZE={value}\n")
        done = typed(app, "check", "--json")
        (problem,) = json.loads(done.stdout)["problems"]
        assert problem == {"file": str(variables), "line": None, "key": "PROG_SIZE", "message": message}
        assert done.exit_code == 1
        for command in ("check", "show"):
            assert typed(app, command).stderr.endswith(f": {variables}: PROG_SIZE: {message}\n")


def test_a_daemon_names_the_variable_that_it_refuses() -> None:
    for app, name, text, message in (
        (AGENT, "OVERLAYD_RESYNC", "soon", "expected a number, not 'soon'"),
        (AGENT, "OVERLAYD_LOG_LEVEL", "loud", "'loud' is not one of debug, info, warning, error"),
        (CONTROLLER, "OVERLAY_CONTROLLER_QUARANTINE", "1.5", "expected an integer, not '1.5'"),
        (CONTROLLER, "OVERLAY_CONTROLLER_INSECURE", "perhaps", "expected true or false, not 'perhaps'"),
    ):
        done = CliRunner().invoke(app, ["run"], env={name: text})
        (line,) = done.stderr.splitlines()
        assert line.endswith(f": {name}: {message}")
        assert done.exit_code == 1
    assert "Usage: " in CliRunner().invoke(AGENT, ["run", "--resync", "soon"]).stderr, "who types it is shown how"


def test_a_path_of_a_variable_is_absolute(file: Path) -> None:
    file.write_text("")
    (problem,) = checked(CONTROLLER, file, OVERLAY_CONTROLLER_STORE="store.db")["problems"]
    assert (problem["key"], problem["message"]) == ("OVERLAY_CONTROLLER_STORE", f"'store.db' {RELATIVE}")
    assert checked(CONTROLLER, file, OVERLAY_CONTROLLER_STORE="etcd://a")["ok"]


def test_a_variable_of_the_services_file_can_name_another_file(file: Path, tmp_path: Path) -> None:
    app, variables, another = service_of(file), file.with_suffix(".env"), tmp_path / "another.toml"
    file.write_text("size = 2\n")
    another.write_text("\nsize = 3\n")
    variables.write_text(f"PROG_CONFIG={another}\n")
    assert f"size = 3  # {another}:2\n" in typed(app, "show").stdout
    another.write_text("size = -1\n")
    assert typed(app, "check").stderr.endswith(f": {another}:1: size: is negative\n")
    another.unlink()
    assert typed(app, "check").stderr.endswith(f": {another}: cannot be read: No such file or directory\n")
    variables.write_text("PROG_CONFIG=another.toml\n")
    assert typed(app, "check").stderr.endswith(f": {variables}: PROG_CONFIG: 'another.toml' {RELATIVE}\n")


def test_a_file_of_variables_that_cannot_be_read_is_a_problem(file: Path) -> None:
    variables = file.with_suffix(".env")
    variables.mkdir()
    for command in ("check", "show"):
        done = typed(service_of(file), command)
        assert done.stderr.endswith(f": {variables}: cannot be read: Is a directory\n")
        assert (done.exit_code, done.stdout) == (1, "")


def test_what_is_shown_can_be_a_file(file: Path, tmp_path: Path) -> None:
    file.write_text('listen = ["[::1]:1", "127.0.0.1:1"]\nhistory-days = 1.5\ninsecure = true\n')
    shown = typed(CONTROLLER, "show", "--config", str(file), OVERLAY_CONTROLLER_QUARANTINE="7").stdout
    again = tmp_path / "again.toml"
    again.write_text(shown)
    first, second = (
        json.loads(typed(CONTROLLER, "show", "--config", str(each), "--json", **environment).stdout)
        for each, environment in ((file, {"OVERLAY_CONTROLLER_QUARANTINE": "7"}), (again, {}))
    )
    assert {key: each["value"] for key, each in first.items()} == {key: each["value"] for key, each in second.items()}
    assert first["listen"] == {"value": ["[::1]:1", "127.0.0.1:1"], "from": f"{file}:1"}
    assert first["quarantine"] == {"value": 7, "from": "OVERLAY_CONTROLLER_QUARANTINE"}
    assert first["etcd-key"] == {"value": None, "from": "default"}


@pytest.mark.parametrize(
    ("text", "shown", "error"),
    [
        ("resnyc = 5", "resync = 30.0  # default", "1: resnyc: there is no such setting; did you mean resync?"),
        ("resync = 0", "resync = 0.0  # FILE:1", "1: resync: 0 is not in 1..86400 seconds"),
        ('name = "a"\nresync = =', 'name = "a"  # FILE:1', "2: is no TOML: Invalid value"),
    ],
)
def test_what_is_wrong_is_told_beside_what_is_shown(file: Path, text: str, shown: str, error: str) -> None:
    file.write_text(text)
    for more in ((), ("--json",)):
        done = typed(AGENT, "show", "--config", str(file), *more)
        assert done.stderr.endswith(f": {file}:{error}\n")
        assert done.exit_code == 1
    assert shown.replace("FILE", str(file)) in typed(AGENT, "show", "--config", str(file)).stdout


def test_credentials_that_cannot_be_seen_are_mentioned(file: Path) -> None:
    file.write_text("")
    nowhere = f"/{'x' * 300}"
    for command in ("check", "show"):
        done = typed(CONTROLLER, command, "--config", str(file), CREDENTIALS_DIRECTORY=nowhere)
        assert f": credentials in {nowhere} are left out, " in done.stderr
        assert done.exit_code == 0


def test_a_credential_is_shown(file: Path, tmp_path: Path) -> None:
    (tmp_path / "overlay-controller.tls-key").write_text("secret")
    file.write_text("")
    done = typed(CONTROLLER, "show", "--config", str(file), CREDENTIALS_DIRECTORY=str(tmp_path))
    place = f'tls-key = "{tmp_path}/overlay-controller.tls-key"  # credential overlay-controller.tls-key\n'
    assert place in done.stdout
    assert "secret" not in done.stdout
