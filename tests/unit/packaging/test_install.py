"""`pip install` and `overlayd install`: what the wheel brings, and what comes and goes on a simulated host."""

import os
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from overlayd.agent.checkpoint import Attachment, AttachmentRecords
from tests.support import clusters
from tests.support.lab import ROOT, CommandFailed, Lab, LabHost
from tests.unit.packaging.wheels import build_wheel, install_wheel

StandIn = Callable[[str, str], Path]

PLACES = (
    "/etc/NetworkManager",
    "/etc/systemd/network",
    "/etc/systemd/system",
    "/opt/cni",
    "/usr/lib/cni",
    "/usr/local/bin",
    "/usr/local/share",
)
"""Where an installation puts files."""

PLUGINS = ("/opt/cni/bin/overlayd", "/usr/lib/cni/overlayd")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_wheel(wheel, tmp_path_factory.mktemp("environment") / "overlayd")


def test_the_wheel_brings_the_native_plugin_the_units_and_the_drop_ins(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("cni/launcher").startswith(b"\x7fELF")
        held = set(archive.namelist())
    shipped = [
        path for part in ("NetworkManager", "network", "systemd") for path in (ROOT / "packaging" / part).iterdir()
    ]
    assert {f"{path.parent.name}/{path.name}" for path in shipped} == {
        name.split("/share/overlayd/")[1] for name in held if "/share/overlayd/" in name
    }


@dataclass(frozen=True, slots=True)
class Machine:
    """A simulated host with an environment, in which systemctl only notes what it is asked for."""

    host: LabHost
    programs: Path
    stand_ins: Path
    calls: Path

    def install(self, *arguments: str) -> str:
        environment = [f"PATH={self.stand_ins}:{os.environ['PATH']}", f"CALLS={self.calls}"]
        return self.host.run("env", *environment, f"{self.programs}/overlayd", "install", *arguments)

    def files(self) -> set[str]:
        return set(self.host.run("find", *PLACES, "!", "-type", "d").split())

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines()


@pytest.fixture
def machine(root: None, programs: Path, tmp_path: Path, stand_in: StandIn) -> Iterator[Machine]:  # noqa: ARG001
    stand_ins = stand_in("systemctl", 'echo "$*" >>"$CALLS"')
    calls = tmp_path / "calls"
    calls.touch()
    with Lab(tmp_path / "lab", hosts=1) as lab:
        (host,) = lab.hosts
        for place in PLACES:
            host.run("mkdir", "-p", place)
            host.run("mount", "-t", "tmpfs", "tmpfs", place)
        yield Machine(host, programs, stand_ins, calls)


def test_an_installation_brings_everything_and_a_removal_takes_it_away(machine: Machine) -> None:
    said = machine.install().split()
    assert set(said) == machine.files()
    unit = machine.host.run("cat", "/etc/systemd/system/overlayd.service")
    assert f"\nExecStart={machine.programs}/overlayd run\n" in unit
    for command in ("overlay-controller", "overlayctl", "overlayd"):
        assert version("overlayd") in machine.host.run(f"/usr/local/bin/{command}", "--version")
    for plugin in PLUGINS:
        assert machine.host.run("stat", "-c", "%a", plugin) == "755\n"
        machine.host.run("env", "CNI_COMMAND=VERSION", plugin)
    assert machine.called() == []

    assert set(machine.install("--remove").split()) == set(said)
    assert machine.files() == set()


def test_a_controllers_machine_gets_no_plugin_and_shares_a_command_with_an_agent(machine: Machine) -> None:
    machine.install("controller")
    alone = machine.files()
    assert "/etc/systemd/system/overlay-controller.service" in alone
    assert not alone & {*PLUGINS, "/etc/systemd/system/overlayd.service", "/usr/local/bin/overlayd"}
    machine.install("agent")
    assert machine.files() > alone
    machine.install("--remove", "agent")
    assert machine.files() == alone


def test_where_systemd_runs_what_runs_is_restarted_and_what_goes_is_stopped(machine: Machine) -> None:
    machine.host.run("mkdir", "-p", "/run/systemd/system")
    machine.install("controller")
    assert machine.called() == ["daemon-reload", "try-restart overlay-controller.service"]
    machine.install("agent")
    both = ["try-restart overlayd.service", "try-restart overlay-controller.service"]
    assert machine.called()[2:] == ["daemon-reload", *both]
    machine.install("--remove", "agent")
    assert machine.called()[5:] == ["disable --quiet --now overlayd.service", "daemon-reload"]


def test_a_repetition_changes_what_is_another_and_leaves_foreign_links(machine: Machine) -> None:
    machine.install("agent")
    machine.host.run(
        "sh", "-c", "echo old >/etc/systemd/system/overlayd.service; ln -sf /bin/true /usr/local/bin/overlayctl"
    )
    machine.install("agent")
    assert "[Service]" in machine.host.run("cat", "/etc/systemd/system/overlayd.service")
    machine.host.run("ln", "-sf", "/bin/true", "/usr/local/bin/overlayctl")
    machine.install("--remove")
    assert machine.files() == {"/usr/local/bin/overlayctl"}


def test_nothing_is_removed_while_containers_are_attached_unless_they_may_be_cut_off(
    machine: Machine, tmp_path: Path
) -> None:
    machine.install("agent")
    before = machine.files()
    AttachmentRecords(tmp_path / "records").put(Attachment(clusters.endpoint(1, "web", "10.32.0.2"), (4, 1)))
    machine.host.run("mkdir", "-p", "/run/overlayd")
    machine.host.run("cp", "-R", str(tmp_path / "records"), "/run/overlayd/attachments")
    with pytest.raises(CommandFailed, match="containers are attached, and would lose their network: web of blue"):
        machine.install("--remove")
    assert machine.files() == before
    machine.install("--remove", "--cut-off")
    assert machine.files() == set()


def test_beside_a_debian_package_nothing_is_installed(programs: Path, tmp_path: Path) -> None:
    unit = tmp_path / "lib/systemd/system/overlayd.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    command = [str(programs / "overlayd"), "install", "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "remove the package" in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [unit]
