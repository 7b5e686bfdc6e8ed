"""The commands of docs/api.md and docs/history.md work as they are printed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from controller.api.http.problem_documents import CODES
from overlayd.model.errors import ERRORS_BY_CODE
from tests.support.controllers.lone_controller import controller
from tests.support.controllers.terminal import Terminal

DOCS = Path(__file__).parents[3] / "docs"


def commands(page: str, program: str) -> list[str]:
    blocks = re.findall(r"^```\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.startswith(program)]


def test_the_examples_of_the_api_page(tmp_path: Path) -> None:
    with controller(tmp_path / "store.db") as running:
        for command in commands("api.md", "curl"):
            address = str(running.api.base_url).rstrip("/")
            typed = command.replace("http://127.0.0.1:7471", address).replace("curl -s", "curl -sf")
            done = subprocess.run(["sh", "-c", typed], capture_output=True, text=True, check=False)
            assert done.returncode == 0, (command, done.stderr)
            assert not done.stdout or json.loads(done.stdout)


def test_the_page_lists_every_code() -> None:
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", (DOCS / "api.md").read_text(), re.MULTILINE))
    raised = {code: str(error.status) for code, error in ERRORS_BY_CODE.items()}
    raised |= {code: str(int(status)) for status, code in CODES.items()} | {"internal": "500"}
    assert listed == raised


@pytest.mark.parametrize("command", [line for line in commands("history.md", "overlayctl") if " watch" not in line])
def test_the_commands_of_the_history_page(tmp_path: Path, command: str) -> None:
    with controller(tmp_path / "store.db") as running:
        terminal = Terminal(running.api)
        terminal.type("network", "create", "blue", "--range", "10.32.0.0/16")
        if " wait" not in command:
            host = {"name": "rack1-07", "address": "192.0.2.7", "instance": "i"}
            running.api.put("/v1/hosts/h1", json=host)
            running.api.post("/v1/networks/blue/blocks", json={"host": "h1"})
        printed = terminal.type(*command.split()[1:])
        assert "rack1-07" in printed or "blue" in printed or "in force" in printed or "no objects" in printed


def test_a_watch_prints_what_exists(tmp_path: Path) -> None:
    with controller(tmp_path / "store.db") as running:
        Terminal(running.api).type("network", "create", "blue", "--range", "10.32.0.0/16")
        url = str(running.api.base_url)
        for command in (line for line in commands("history.md", "overlayctl") if " watch" in line):
            program = [sys.executable, "-c", "from overlayd.cli.main import main; main()", *command.split()[1:]]
            environment = {"OVERLAY_CONTROLLER_URL": url, "PYTHONPATH": ":".join(sys.path)}
            with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE) as watching:
                assert watching.stdout
                line = watching.stdout.readline()
                watching.terminate()
            assert b"blue" in line or b"in-sync" in line
