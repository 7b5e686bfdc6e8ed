"""The commands of docs/backup.md, by the word, and the tests that it names."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.controllers.test_backups import BLUE, networks
from tests.support.controllers.etcd import EtcdCluster
from tests.support.controllers.processes import LocalController
from tests.support.lab.lab import COMMANDS, ROOT
from tests.support.pages.guide import blocks
from tests.support.pages.named_tests import missing, named, table_rows

PAGE = (ROOT / "docs/backup.md").read_text()
ETCD = "etcd://127.0.0.1:2379"


class Machine:
    """One that runs a controller as the page says, with its files below a directory, and without systemd."""

    def __init__(self, directory: Path, etcd: str) -> None:
        self._directory = directory
        self._etcd = etcd
        self._config = directory / "controller.toml"
        self._config.write_text(f'store = "{directory}/store.db"\nstate-dir = "{directory}/controller.state"\n')
        self.controller = LocalController("controller", directory, "--config", str(self._config))
        self.controller.start()

    def type(self, command: str) -> None:
        """Run a line of the page."""
        command = command.removeprefix("sudo ")
        match command.split():
            case ["systemctl", "stop", "overlay-controller"]:
                self.controller.stop()
            case ["systemctl", "start", "overlay-controller"]:
                self.controller.start()
            case [("overlayctl" | "journalctl"), *_]:
                pass  # tried with the commands of hosts, and on machines with a journal
            case _:
                self._run(command)

    def _run(self, command: str) -> None:
        for there, here in (
            ("/var/backups", str(self._directory)),
            ("/var/lib/overlay-controller", str(self._directory)),
            ("/etc/overlayd/controller.toml", str(self._config)),
            (ETCD, self._etcd),
        ):
            command = command.replace(there, here)
        environment = {
            **os.environ,
            "PATH": f"{COMMANDS}:{os.environ['PATH']}",
            "OVERLAY_CONTROLLER_CONFIG": str(self._config),
        }
        done = subprocess.run(
            ["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with EtcdCluster(1) as etcd:
        made = Machine(tmp_path, etcd.url)
        try:
            yield made
        finally:
            if made.controller.process:
                made.controller.stop()


def lines(heading: str) -> list[str]:
    return [line for block in blocks(heading, PAGE) for line in block.splitlines()]


def make(machine: Machine, name: str) -> None:
    assert machine.controller.request("POST", "/v1/networks", {**BLUE, "name": name}).status_code == 201


def test_the_commands_do_what_the_page_says(machine: Machine, tmp_path: Path) -> None:
    make(machine, "blue")
    for line in lines("Back up"):
        machine.type(line)
    make(machine, "late")
    for line in lines("Restore"):
        machine.type(line)
    assert networks(machine.controller) == {"blue"}
    assert (tmp_path / "store.db.before-1").exists()
    for line in lines("Change the authority"):
        machine.type(line)
    assert networks(machine.controller) == {"blue"}
    there, back = blocks("Move from a file to an etcd, or back", PAGE)
    for line in there.splitlines():
        machine.type(line)
    assert networks(machine.controller) == {"blue"}
    assert (tmp_path / "store.db.migrated-1").exists()
    assert not (tmp_path / "store.db").exists()
    for line in back.splitlines():
        machine.type(line)
    assert networks(machine.controller) == {"blue"}
    assert (tmp_path / "store.db").exists()


def test_a_new_cluster_begins_where_the_store_is_gone(machine: Machine, tmp_path: Path) -> None:
    make(machine, "blue")
    machine.controller.stop()
    for path in tmp_path.glob("store.db*"):
        if path.suffix != ".json":
            path.unlink()
    for line in lines("When the store is gone"):
        machine.type(line)
    assert networks(machine.controller) == set()


def test_each_row_of_what_is_tested_names_tests_that_exist(request: pytest.FixtureRequest) -> None:
    rows = table_rows(PAGE, "What is tested")
    assert [row for row in rows if not named(row)] == []
    assert missing(PAGE, request.session) == set()
