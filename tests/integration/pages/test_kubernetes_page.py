"""docs/kubernetes.md: its list is what its command writes, and its other commands work as they are printed."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from overlayd.agent.program import app
from tests.support.controllers.lone_controller import controller
from tests.support.controllers.terminal import Terminal
from tests.support.lab.lab import ROOT

PAGE = (ROOT / "docs/kubernetes.md").read_text()


def commands(program: str) -> list[str]:
    return re.findall(rf"^ *(?:sudo )?({program} .*)$", PAGE, re.MULTILINE)


def installed(command: str, directory: Path) -> object:
    """Run a command of the page below a directory; return the configuration list that it writes."""
    where = ["--bin-dir", str(directory / "bin"), "--conf-dir", str(directory)]
    done = CliRunner().invoke(app, [*shlex.split(command)[1:], *where])
    assert done.exit_code == 0, done.output
    return json.loads((directory / "10-overlayd-k8s-pods.conflist").read_text())


def test_the_list_is_what_the_command_writes(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    plain, annotated = commands("overlayd")
    assert installed(plain, tmp_path) == json.loads(shown)
    assert "io.kubernetes.cri.pod-annotations" in json.dumps(installed(annotated, tmp_path))


def test_the_network_is_made_and_pods_are_looked_for(tmp_path: Path) -> None:
    with controller(tmp_path / "store.db") as running:
        terminal = Terminal(running.api)
        for command in commands("overlayctl"):
            terminal.type(*shlex.split(command)[1:])
        assert terminal.json("network", "show", "pods")
        for command in commands("curl"):
            typed = command.replace("http://127.0.0.1:7471", str(running.api.base_url).rstrip("/"))
            done = subprocess.run(["sh", "-c", typed.replace("curl -s", "curl -sf")], capture_output=True, check=False)
            assert done.returncode == 0, command
            assert json.loads(done.stdout)["items"] == []


@pytest.mark.parametrize("name", re.findall(r"`overlayctl ([a-z]+ [a-z]+)`", PAGE))
def test_the_commands_that_the_text_names_exist(tmp_path: Path, name: str) -> None:
    with controller(tmp_path / "store.db") as running:
        assert "Usage" in Terminal(running.api).type(*name.split(), "--help")
