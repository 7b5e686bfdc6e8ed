"""Each daemon's settings are its options, under one rule of names; the packaged examples show all of them."""

import re
from typing import get_type_hints

import pytest
import typer

import controller.main
import controller.settings
import overlayd.agent.program
import overlayd.agent.settings
from overlayd.configuration.schema import Schema, ValueKind
from overlayd.configuration.toml_file import parse
from tests.support.lab.lab import ROOT

AGENT = (overlayd.agent.program.app, overlayd.agent.settings.SCHEMA)
CONTROLLER = (controller.main.app, controller.settings.SCHEMA)


@pytest.mark.parametrize(("app", "schema"), [AGENT, CONTROLLER], ids=["agent", "controller"])
def test_every_option_is_a_setting(app: typer.Typer, schema: Schema) -> None:
    program = typer.main.get_command(app)
    assert isinstance(program, typer.core.TyperGroup)
    options = {option.opts[0]: option for option in program.commands["run"].params if option.name != "help"}
    assert options.pop("--config").envvar == f"{schema.prefix}_CONFIG"
    assert set(options) == {setting.flag for setting in schema.settings}
    for setting in schema.settings:
        option = options[setting.flag]
        assert (option.name, option.envvar) == (setting.parameter, schema.variable(setting))


@pytest.mark.parametrize(("app", "schema"), [AGENT, CONTROLLER], ids=["agent", "controller"])
def test_no_option_looks_at_a_file_itself(app: typer.Typer, schema: Schema) -> None:
    """Whoever reads the file tells where it was named; the option would blame a flag."""
    for command in app.registered_commands:
        assert command.callback
        for parameter, hint in get_type_hints(command.callback, include_extras=True).items():
            for option in getattr(hint, "__metadata__", ()):
                if parameter == "_config" or schema.of_parameter(parameter):
                    takes = (option.exists, option.readable, option.file_okay, option.dir_okay)
                    assert takes == (False, "Path" not in str(hint.__origin__), True, True), (command.name, parameter)


@pytest.mark.parametrize(("name", "schema"), [("agent", AGENT[1]), ("controller", CONTROLLER[1])])
def test_the_example_shows_every_setting(name: str, schema: Schema) -> None:
    path = ROOT / f"packaging/examples/{name}.toml"
    text = path.read_text()
    assert parse(path, text).statements == (), "as it is shipped it sets nothing"
    shown = parse(path, re.sub(r"^#(?=[a-z-]+ = )", "", text, flags=re.MULTILINE))
    assert shown.faults == ()
    values = dict(schema.value(statement) for statement in shown.statements)
    assert set(values) == set(schema.settings)
    assert all(isinstance(value, list) == (setting.kind is ValueKind.TEXTS) for setting, value in values.items())
