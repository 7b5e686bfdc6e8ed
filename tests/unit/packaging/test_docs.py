"""docs/install.md: what it names exists, and its first steps work as they stand there."""

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.lab import COMMANDS, CONTROLLER, PORT, ROOT, Lab, LabHost

GUIDE = (ROOT / "docs/install.md").read_text()

StandIn = Callable[[str, str], Path]


def blocks(heading: str) -> list[str]:
    """Return the commands that stand below a heading."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    assert section, heading
    return re.findall(r"^```\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)


def test_each_role_is_installed_by_the_script() -> None:
    controller, _ = blocks("Controller")
    agent, *_ = blocks("Agent, on every host")
    assert controller.startswith("sudo packaging/install.sh controller\n")
    assert agent.startswith("sudo packaging/install.sh agent\n")


@pytest.mark.parametrize("pattern", [r"packaging/[\w./-]+\w", r"vagrant/[\w./-]+\w"])
def test_every_file_of_the_project_that_is_named_exists(pattern: str) -> None:
    texts = [path.read_text() for path in (ROOT / "vagrant").iterdir() if path.is_file()]
    named = {name for text in (GUIDE, *texts) for name in re.findall(rf"(?<![\w.-]){pattern}", text)}
    assert {name for name in named if not (ROOT / name).exists()} <= {"vagrant/.vagrant"}


def test_the_removal_names_every_unit_and_command() -> None:
    (removal,) = blocks("Remove")
    for unit in (ROOT / "packaging/systemd").iterdir():
        assert f"/etc/systemd/system/{unit.name}" in removal
        assert re.search(rf"disable --now .*\b{unit.stem}\b", removal)
    script = (ROOT / "packaging/install.sh").read_text()
    commands = {name for line in re.findall(r"install_role .*\.service (.*)", script) for name in line.split()}
    assert commands == {"overlay-controller", "overlayctl", "overlayd"}
    assert all(f"/usr/local/bin/{name}" in removal for name in commands)


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
def test_a_controller_is_logged_in_at_and_a_host_joins_as_printed(tmp_path: Path, stand_in: StandIn) -> None:
    """Only where things are differs: the store beside the lab, and the lab's address of the controller."""
    _, login = blocks("Controller")
    _, joining, starting = blocks("Agent, on every host")[:3]
    stand_in("sudo", 'exec "$@"')
    stand_in("systemctl", "exit 0")
    with Lab(tmp_path / "lab", hosts=2, secure=True) as lab:
        lab.start_controller()
        administrator, host = lab.hosts
        stand_ins = stand_in("ssh", f'shift; exec nsenter --target={host.pid} --net --mount "$@"')
        environment = {"PATH": f"{stand_ins}:{COMMANDS}:{os.environ['PATH']}", "HOME": str(tmp_path)}

        def here(commands: str) -> str:
            places = commands.replace("/var/lib/overlay-controller/", f"{lab.directory}/")
            return places.replace("127.0.0.1", CONTROLLER).replace("10.0.0.1", CONTROLLER)

        assert "as admin (admin)" in follow(administrator, here(login), environment)
        assert "joined as host" in follow(administrator, here(joining), environment)
        host.start_agent()
        follow(host, starting, environment)
        assert '"connected": true' in follow(administrator, "overlayctl host list --json", environment)


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
        assert "3 received" in follow(there, f"name=second\n{ping}", environment)

        follow(here, f"name=first\n{detach}", environment)
        follow(there, f"name=second\n{detach}", environment)
        lab.overlayctl("network", "delete", "blue")
