"""The usual start reads settings as the command line does, and leaves to it whatever is not usual."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from overlayd.agent.controllers import credential
from overlayd.agent.program import app
from overlayd.agent.quick_start import PlainStart, plain_start
from overlayd.agent.settings import SCHEMA, Settings, choose
from overlayd.configuration import sources
from overlayd.dataplane.desired.firewall import Metadata
from overlayd.model.errors import OverlayError

URL, OTHER = "http://10.0.0.1:7471", "http://10.0.0.2:7471"

TEXTS = st.sampled_from(
    [
        "",
        " ",
        "-",
        "--help",
        "here",
        "no name",
        "10.0.0.7",
        "fe80::1",
        URL,
        f"{URL} {OTHER}",
        "https://10.0.0.1",
        "4790",
        "+4790",
        "70000",
        "4_790",
        "2.5",
        "1e3",
        "nan",
        "inf",
        "allowed",
        "refused",
        "REFUSED",
        "1000:blue",
        "1000",
        "debug",
        "/state",
        "state",
    ]
)
FLAGS = [each.flag for each in SCHEMA.settings] + ["--help", "--version", "--unknown", "stray", "--"]
LINES = st.sampled_from(
    [
        f'controller = "{URL}"',
        f'controller = ["{URL}", "{OTHER}"]',
        'name = "told"',
        "name = 5",
        'vtep = "10.0.0.8"',
        "vxlan-port = 4791",
        "vxlan-port = true",
        "resync = 7",
        "resync = 7.5",
        'metadata = "allowed"',
        'log-level = "warning"',
        'allow-user = "1000:blue"',
        'allow-user = ["1000:blue", "root:blue"]',
        'state-dir = "/told"',
        'state-dir = "told"',
        "unknown = 1",
        "rubbish",
    ]
)


@pytest.fixture
def environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def by_command_line(arguments: list[str]) -> PlainStart | None:
    """Return what the command line makes of these, None when it ends with an error or help."""
    command: Any = typer.main.get_command(app)
    try:
        with command.commands["run"].make_context("run", list(arguments)) as context, sources.located(context):
            values = {each.parameter: each.converted(context.params[each.parameter]) for each in SCHEMA.settings}
            log_level = values.pop("log_level")
            return PlainStart(choose(**values, credential=credential.known(values["state_dir"])), log_level)
    except (OverlayError, OSError, typer.Exit, typer.Abort, SystemExit):
        return None
    except typer.BadParameter:
        return None
    except Exception as error:
        if "UsageError" in [each.__name__ for each in type(error).__mro__]:  # of typer's own copy of click
            return None
        raise


@pytest.mark.usefixtures("environment")
@given(
    st.lists(st.tuples(st.sampled_from(FLAGS), TEXTS, st.booleans()), max_size=4),
    st.dictionaries(st.sampled_from([SCHEMA.variable(each) for each in SCHEMA.settings]), TEXTS, max_size=3),
    st.lists(LINES, max_size=3, unique_by=lambda line: line.partition(" ")[0]),
)
@settings(max_examples=300, deadline=None)
def test_both_read_the_same_or_the_command_line_alone(
    tmp_path_factory: pytest.TempPathFactory,
    flags: list[tuple[str, str, bool]],
    variables: dict[str, str],
    lines: list[str],
) -> None:
    path = tmp_path_factory.getbasetemp() / "agent.toml"
    path.write_text("\n".join(lines))
    arguments = ["--config", str(path)]
    for flag, text, is_joined in flags:
        arguments += [f"{flag}={text}"] if is_joined else [flag, text]
    for name in [name for name in os.environ if name.startswith("OVERLAYD_")]:
        del os.environ[name]
    os.environ.update(variables)
    found = plain_start(arguments)
    assert found is None or found == by_command_line(arguments)


@pytest.mark.usefixtures("environment")
def test_the_usual_starts_need_no_command_line(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(f'controller = "{URL}"\nresync = 7\nlog-level = "debug"\nstate-dir = "{tmp_path}"\n')
    os.environ["OVERLAYD_NAME"] = "here"
    os.environ["OVERLAYD_METADATA"] = "allowed"
    found = plain_start(["--config", str(config), "--vxlan-port", "4790", f"--controller={OTHER}"])
    assert found
    assert found.log_level == "debug"
    expected = Settings((OTHER,), "here", None, None, 4790, tmp_path, resync=7.0, metadata=Metadata.ALLOWED)
    assert found.settings == expected


@pytest.mark.usefixtures("environment")
def test_a_config_file_without_a_name_is_not_that_of_the_environment(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(f'controller = "{URL}"\nstate-dir = "{tmp_path}"\n')
    os.environ["OVERLAYD_CONFIG"] = str(config)
    assert plain_start([])
    assert plain_start(["--config="]) is None
    assert by_command_line(["--config="]) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        [],
        ["--controller"],
        ["--controller", "10.0.0.1"],
        ["--controller", URL, "--resync", "0"],
        ["--controller", URL, "--state-dir"],
        ["--controller", URL, "stray"],
        ["--controller", URL, "--vtep", "127.0.0.1"],
        ["--controller", URL, "--config", "/nowhere.toml"],
        ["--controller", "https://10.0.0.1:7471"],
    ],
)
@pytest.mark.usefixtures("environment")
def test_what_is_not_usual_is_left_to_the_command_line(tmp_path: Path, arguments: list[str]) -> None:
    assert plain_start([*arguments, f"--state-dir={tmp_path}"]) is None


@pytest.mark.usefixtures("environment")
def test_a_host_that_has_yet_to_join_is_left_to_the_command_line(tmp_path: Path) -> None:
    arguments = ["--controller", URL, "--state-dir", str(tmp_path / "state")]
    assert plain_start(arguments)
    os.environ["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    (tmp_path / credential.JOIN_TOKEN).write_text("token")
    assert plain_start(arguments) is None
