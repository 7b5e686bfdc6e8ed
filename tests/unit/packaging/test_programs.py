"""Manual pages and completion: groff finds no fault, and a shell completes what the programs know."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperGroup

from overlayd.installation.completion import SCRIPTS, completion
from overlayd.installation.manual import manual_page
from overlayd.installation.programs import PROGRAMS, MachineRole, Program, command, of_roles
from tests.support.lab.lab import COMMANDS

by_name = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)


@by_name
def test_groff_finds_no_fault_in_a_manual_page(program: Program) -> None:
    command = ["groff", "-man", "-Tutf8", "-ww", "-rCHECKSTYLE=3"]
    done = subprocess.run(command, input=manual_page(program), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert f"{program.name} - {program.summary}" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("overlayctl", (".SS overlayctl network create", "\n.B OVERLAY_TOKEN_FILE\n", "\\-\\-block\\-length6")),
        ("overlayd", (".SS overlayd install\\-cni", "\n.B OVERLAYD_VTEP\n", "/etc/overlayd/agent.toml")),
        ("overlay-controller", (".SS overlay\\-controller admin\\-token", "\n.B OVERLAY_CONTROLLER_LISTEN\n")),
    ],
)
def test_a_manual_page_tells_commands_options_variables_and_files(name: str, shown: tuple[str, ...]) -> None:
    (program,) = (program for program in PROGRAMS if program.name == name)
    page = manual_page(program)
    assert [each for each in shown if each not in page] == []
    assert "completion" not in page.split(".SH COMMANDS")[0]


def test_a_machine_has_the_programs_of_its_roles() -> None:
    assert {program.name for program in of_roles([MachineRole.CONTROLLER])} == {"overlay-controller", "overlayctl"}
    assert {program.name for program in of_roles([MachineRole.AGENT])} == {"overlayd", "overlayctl"}
    assert tuple(of_roles(MachineRole)) == PROGRAMS


@by_name
def test_every_command_but_a_daemon_prints_json_when_it_is_told_to(program: Program) -> None:
    without = [name for name, options in commands(command(program)) if "--json" not in options]
    assert without == ([] if program.name == "overlayctl" else ["run"])


def commands(group: TyperGroup, path: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield the commands of a program that are no groups, with their options."""
    for name, each in group.commands.items():
        if isinstance(each, TyperGroup):
            yield from commands(each, f"{path}{name} ")
        else:
            yield f"{path}{name}", {option for parameter in each.params for option in parameter.opts}


@pytest.mark.parametrize(
    ("program", "typed", "offered"),
    [
        ("overlayctl", ["net"], ["network"]),
        ("overlayctl", ["network", "cr"], ["create"]),
        ("overlayd", ["install", "--re"], ["--remove"]),
        ("overlay-controller", ["admin"], ["admin-token"]),
    ],
)
def test_bash_completes_commands_and_options(program: str, typed: list[str], offered: list[str]) -> None:
    words = " ".join([program, *typed])
    ask = (
        f"{completion('bash', program)}\n"
        f"COMP_WORDS=({words}) COMP_CWORD={len(typed)}\n"
        f"_{program.replace('-', '_')}_complete {COMMANDS / program}\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-euc", ask], capture_output=True, text=True, check=True)
    assert done.stdout.split() == offered


@by_name
@pytest.mark.parametrize("shell", SCRIPTS)
def test_every_shell_asks_by_the_variable_that_the_program_reads(shell: str, program: Program) -> None:
    variable = f"_{program.name.replace('-', '_').upper()}_COMPLETE"
    assert f"{variable}=complete_{shell}" in completion(shell, program.name)
    environment = {"PATH": str(Path("/usr/bin")), variable: f"source_{shell}"}
    done = subprocess.run([COMMANDS / program.name], capture_output=True, text=True, check=True, env=environment)
    assert f"{variable}=complete_{shell}" in done.stdout
