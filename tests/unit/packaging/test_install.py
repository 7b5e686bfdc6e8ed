"""install.sh, on a simulated host: all of it but apt-get, pip and systemd, which stand-ins replace."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.lab import ROOT, Lab, LabHost

INSTALL = ROOT / "packaging/install.sh"
SCRIPTS = sorted([*(ROOT / "packaging").glob("*.sh"), *(ROOT / "vagrant").glob("*.sh")])

StandIn = Callable[[str, str], Path]

PYTHON = """
case "$*" in
"-m venv --clear "*)
    mkdir -p "$4/bin"
    cp "$0" "$4/bin/python"
    ;;
"-m pip --version") ;;
"-m pip "*) echo "pip $*" >>"$CALLS" ;;
*) exec {real} "$@" ;;
esac
"""
"""A Python whose virtual environments contain itself, and whose pip only notes what it was asked for."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_it_and_it_may_be_executed(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)


def refusal(*arguments: str, path: Path | None = None, **environment: str) -> str:
    """Run install.sh, which must fail before it changes anything; return what it says."""
    search = f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]
    done = subprocess.run(
        [INSTALL, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": search, **environment},
    )
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize(
    ("roles", "reason"), [((), "say what to install"), (("agent", "server"), "no role 'server'"), (("-h",), "'-h'")]
)
def test_it_wants_roles_that_exist(roles: tuple[str, ...], reason: str) -> None:
    assert reason in refusal(*roles)


def test_it_wants_root(stand_in: StandIn) -> None:
    assert "run it as root" in refusal("agent", path=stand_in("id", "echo 1000"))


def have_packages(stand_in: StandIn) -> None:
    stand_in("id", "echo 0")
    stand_in("dpkg-query", "printf 'installed %s\\n' python3 python3-venv iproute2 nftables")
    stand_in("apt-get", "echo 'apt-get was called' >&2; exit 1")


def test_it_wants_a_python_that_is_new_enough(stand_in: StandIn) -> None:
    have_packages(stand_in)
    old = "[ \"$1\" = --version ] || exit 1; echo 'Python 3.9.2'"
    path = stand_in("python3.9", old)
    assert "3.11 or newer" in (said := refusal("agent", path=path, PYTHON="python3.9"))
    assert "Python 3.9.2" in said


def test_it_wants_the_python_that_it_was_told(stand_in: StandIn) -> None:
    have_packages(stand_in)
    path = stand_in("id", "echo 0")
    assert "no python3.99 here" in refusal("agent", path=path, PYTHON="python3.99")


def test_it_shows_why_a_package_cannot_be_installed(stand_in: StandIn) -> None:
    stand_in("id", "echo 0")
    stand_in("dpkg-query", "echo 'installed python3'; echo 'not-installed iproute2'")
    path = stand_in("apt-get", "echo 'the mirror is away'; exit 100")
    said = refusal("agent", path=path)
    assert "the mirror is away" in said
    assert "apt-get could not install: iproute2 nftables python3-venv" in said


@dataclass(frozen=True, slots=True)
class Machine:
    """A simulated host on which scripts run with the stand-ins."""

    host: LabHost
    stand_ins: Path
    calls: Path

    def run(self, script: Path, *arguments: str) -> str:
        environment = f"PATH={self.stand_ins}:{os.environ['PATH']}"
        python = f"PYTHON={self.stand_ins}/python"
        return self.host.run("env", environment, python, f"CALLS={self.calls}", str(script), *arguments)

    def called(self) -> list[str]:
        """Return what pip and systemctl were asked for since the last time."""
        lines = self.calls.read_text().splitlines()
        self.calls.write_text("")
        return lines

    def read(self, path: str) -> str:
        return self.host.run("cat", path)

    def mode(self, path: str) -> str:
        return self.host.run("stat", "-c", "%a", path).strip()


@pytest.fixture
def machine(root: None, tmp_path: Path, stand_in: StandIn) -> Iterator[Machine]:  # noqa: ARG001 - makes namespaces
    have_packages(stand_in)
    stand_in("systemctl", 'echo "systemctl $*" >>"$CALLS"')
    stand_ins = stand_in("python", PYTHON.format(real=sys.executable))
    calls = tmp_path / "calls"
    calls.touch()
    with Lab(tmp_path / "lab", hosts=1) as lab:
        (host,) = lab.hosts
        host.run("mount", "-t", "tmpfs", "tmpfs", "/usr/local/bin")
        # What the lab or the machine below it may have brought; etc and opt are the host's own.
        host.run("rm", "-rf", "/opt/cni", "/opt/overlayd", "/etc/overlayd")
        yield Machine(host, stand_ins, calls)


def test_an_agent_gets_its_unit_settings_commands_and_plugin(machine: Machine) -> None:
    said = machine.run(INSTALL, "agent")
    assert machine.read("/etc/systemd/system/overlayd.service") == (
        ROOT / "packaging/systemd/overlayd.service"
    ).read_text().replace("=/usr/bin/", "=/opt/overlayd/bin/")
    assert machine.read("/etc/overlayd/agent.env") == (ROOT / "packaging/examples/agent.env").read_text()
    assert machine.mode("/etc/overlayd/agent.env") == "600"
    assert machine.mode("/opt/cni/bin/overlayd") == "755"
    assert machine.host.run("readlink", "/usr/local/bin/overlayd") == "/opt/overlayd/bin/overlayd\n"
    assert machine.host.run("ls", "/usr/local/bin").split() == ["overlayctl", "overlayd"]
    assert machine.host.run("ls", "/etc/overlayd").split() == ["agent.env"]
    assert "systemd does not run here" in said


def test_a_controller_gets_no_plugin(machine: Machine) -> None:
    machine.run(INSTALL, "controller")
    assert machine.host.run("ls", "/etc/overlayd").split() == ["controller.env"]
    assert machine.host.run("ls", "/usr/local/bin").split() == ["overlay-controller", "overlayctl"]
    assert "cni" not in machine.host.run("ls", "/opt").split()


def test_everything_from_the_index_is_checked_by_its_hash(machine: Machine) -> None:
    machine.run(INSTALL, "controller")
    pinned, ours = machine.called()
    assert "--require-hashes" in pinned
    assert f"-r {ROOT}/requirements.lock" in pinned
    assert "--no-deps --no-build-isolation" in ours


def test_what_is_built_is_a_copy_so_that_the_tree_may_be_read_only(machine: Machine) -> None:
    machine.run(INSTALL, "controller")
    _, ours = machine.called()
    tree = Path(ours.split()[-1])
    assert ROOT not in tree.parents
    assert not tree.exists()


def test_where_systemd_runs_the_service_is_enabled_and_restarted_only_if_it_runs(machine: Machine) -> None:
    machine.host.run("mkdir", "-p", "/run/systemd/system")
    machine.run(INSTALL, "controller")
    systemctl = [line for line in machine.called() if line.startswith("systemctl")]
    assert systemctl == [
        "systemctl daemon-reload",
        "systemctl --quiet enable overlay-controller.service",
        "systemctl try-restart overlay-controller.service",
    ]
    machine.run(INSTALL, "agent")
    assert [line for line in machine.called() if "try-restart" in line] == [
        "systemctl try-restart overlay-controller.service",
        "systemctl try-restart overlayd.service",
    ]


def test_a_repetition_keeps_the_environment_and_the_settings(machine: Machine) -> None:
    machine.run(INSTALL, "agent", "controller")
    machine.host.run("touch", "/opt/overlayd/mark")
    machine.host.run("sh", "-c", "echo OVERLAYD_NAME=mine >/etc/overlayd/agent.env")
    machine.host.run("sh", "-c", "echo old >/etc/systemd/system/overlayd.service")
    said = machine.run(INSTALL, "agent", "controller")
    assert "creating" not in said
    machine.host.run("test", "-e", "/opt/overlayd/mark")
    assert machine.read("/etc/overlayd/agent.env") == "OVERLAYD_NAME=mine\n"
    assert "[Service]" in machine.read("/etc/systemd/system/overlayd.service")


def test_an_environment_that_does_not_work_is_made_anew(machine: Machine) -> None:
    machine.run(INSTALL, "agent")
    machine.host.run("touch", "/opt/overlayd/mark")
    machine.host.run("rm", "/opt/overlayd/bin/python")
    assert "creating /opt/overlayd" in machine.run(INSTALL, "agent")
    machine.host.run("test", "-x", "/opt/overlayd/bin/python")
