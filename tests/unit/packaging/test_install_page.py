"""docs/install.md: what it names exists, and its first network and container work as they stand there.

tests/machines takes all of it by the word, on machines with systemd.
"""

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from overlayd.installation.layout import PACKAGE
from overlayd.installation.programs import PROGRAMS
from tests.support.lab.lab import COMMANDS, CONTROLLER, PORT, ROOT, Lab, LabHost
from tests.support.pages.guide import GUIDE, blocks

StandIn = Callable[[str, str], Path]

_COMMANDS = {
    "overlay-controller": (["init"], ["run"]),
    "overlayctl": (["network", "create"], ["host", "list"]),
    "overlayd": (["join"], ["install"], ["install-cni"], ["cleanup"]),
}
_OF_OTHERS = {"--net", "--unit", "--now", "--require-hashes", "--no-deps"}
"""Options of other programs."""


@pytest.mark.parametrize(
    "pattern", [r"packaging/[\w./-]+\w", r"vagrant/[\w./-]+\w", r"requirements\.lock", r"[\w-]+\.md"]
)
def test_every_file_of_the_project_that_is_named_exists(pattern: str) -> None:
    texts = [path.read_text() for path in (ROOT / "vagrant").iterdir() if path.is_file()]
    named = {name for text in (GUIDE, *texts) for name in re.findall(rf"(?<![\w./-]){pattern}", text)}
    places = (ROOT, ROOT / "docs", ROOT / "vagrant")
    assert {name for name in named if not any((place / name).exists() for place in places)} <= {"vagrant/.vagrant"}


def test_the_version_that_is_named_is_the_one_that_is_built() -> None:
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert set(re.findall(r"overlayd_([\d.]+)\+deb\d+_", GUIDE)) == {version}


def test_the_places_that_are_named_are_those_of_the_package() -> None:
    (table,) = re.findall(r"^## What is where\n+((?:\|.*\n)+)", GUIDE, re.MULTILINE)
    assert all(f"{plugin}/overlayd`" in table for plugin in PACKAGE.plugins)
    assert f"`{PACKAGE.commands}/overlayd`" in table
    for program in PROGRAMS:
        assert f"{program.name}`" in table


def test_every_option_that_is_named_is_known() -> None:
    commands = [[program, *words] for program, several in _COMMANDS.items() for words in several]
    pages = [
        subprocess.run([COMMANDS / program, *words, "--help"], capture_output=True, text=True, check=True).stdout
        for program, *words in commands
    ]
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", GUIDE)) - _OF_OTHERS
    assert not {option for option in named if not any(option in page for page in pages)}


def follow(host: LabHost, commands: str, environment: Mapping[str, str]) -> str:
    """Type commands on a host; return what they print."""
    pairs = [f"{name}={value}" for name, value in environment.items()]
    done = subprocess.run(
        host.enter(["env", *pairs, "bash", "-eu", "-o", "pipefail"]),
        input=commands,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.usefixtures("root")
def test_the_first_network_and_container_come_and_go(tmp_path: Path, stand_in: StandIn) -> None:
    stand_ins = stand_in("sudo", 'exec "$@"')
    environment = {
        "PATH": f"{stand_ins}:{COMMANDS}:{os.environ['PATH']}",
        "OVERLAY_CONTROLLER_URL": f"http://{CONTROLLER}:{PORT}",
    }
    create, configure = blocks("First network")
    attach, ping, detach = blocks("First container")
    with Lab(tmp_path / "lab", hosts=2) as lab:
        lab.start_controller()
        for host in lab.hosts:
            host.start_agent()
        here, there = lab.hosts
        assert "blue" in follow(here, create, environment)
        assert "/etc/cni/net.d/10-overlayd-blue.conflist" in follow(here, configure, environment)

        first = follow(here, attach, environment)
        assert "10.32.0.2" in ping
        assert "inet 10.32.0.2/32" in first
        second = attach.replace("name=first", "name=second")
        assert second != attach
        follow(there, second, environment)
        lab.overlayctl("wait")
        assert "3 received" in follow(there, f"name=second\n{ping}", environment)

        follow(here, f"name=first\n{detach}", environment)
        follow(there, f"name=second\n{detach}", environment)
        lab.delete_network("blue")
