"""`pip install` and `overlayd install`: what the wheel brings, and what comes and goes on a simulated host."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from tests.support.controllers import clusters
from tests.support.lab.lab import ROOT, CommandFailed, Lab, LabHost
from tests.unit.packaging.wheels import build_wheel, install_wheel

StandIn = Callable[[str, str], Path]

PLACES = (
    "/etc/NetworkManager",
    "/etc/systemd/network",
    "/etc/systemd/system",
    "/opt/cni",
    "/usr/lib/cni",
    "/usr/local/bin",
    "/usr/local/lib/netavark",
    "/usr/local/share",
)
"""Where an installation puts files."""

SYSTEMCTL = """
if [ "$1" = show ]; then
    echo "$STATE"
else
    echo "$*" >>"$CALLS"
    [[ "$*" != *$FAILING* ]]
fi
"""

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
    """A simulated host with an environment, in which systemctl only notes what it is asked for.

    By default nothing runs there.
    """

    host: LabHost
    programs: Path
    stand_ins: Path
    calls: Path

    def overlayd(self, *arguments: str, state: str = "inactive", failing: str = "nothing") -> str:
        environment = [f"PATH={self.stand_ins}:{os.environ['PATH']}", f"CALLS={self.calls}"]
        environment += [f"STATE={state}", f"FAILING={failing}"]
        return self.host.run("env", *environment, f"{self.programs}/overlayd", *arguments)

    def install(self, *arguments: str, state: str = "inactive", failing: str = "nothing") -> str:
        return self.overlayd("install", *arguments, state=state, failing=failing)

    def files(self) -> set[str]:
        return set(self.host.run("find", *PLACES, "!", "-type", "d").split())

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines()


@pytest.fixture
def machine(root: None, programs: Path, tmp_path: Path, stand_in: StandIn) -> Iterator[Machine]:  # noqa: ARG001
    stand_ins = stand_in("systemctl", SYSTEMCTL)
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

    assert set(json.loads(machine.install("--json"))["installed"]) == set(said)
    assert set(json.loads(machine.install("--remove", "--json"))["removed"]) == set(said)
    assert machine.files() == set()
    assert set(machine.install().split()) == set(said)
    assert set(machine.install("--remove").split()) == set(said)


def test_a_controllers_machine_gets_no_plugin_and_shares_a_command_with_an_agent(machine: Machine) -> None:
    machine.install("controller")
    alone = machine.files()
    assert "/etc/systemd/system/overlay-controller.service" in alone
    assert not alone & {*PLUGINS, "/etc/systemd/system/overlayd.service", "/usr/local/bin/overlayd"}
    machine.install("agent")
    assert machine.files() > alone
    machine.install("--remove", "agent")
    assert machine.files() == alone


TOLD = ["daemon-reload", "reload systemd-networkd.service", "reload NetworkManager.service"]
RENEWED = ["restart overlay-controller.service", "restart overlayd.service"]


def test_where_systemd_runs_what_runs_is_restarted_controllers_first(machine: Machine) -> None:
    machine.host.run("mkdir", "-p", "/run/systemd/system")
    machine.install("controller", state="activating")
    assert machine.called() == ["daemon-reload", RENEWED[0]]
    machine.install("agent", state="active")
    assert machine.called()[2:] == [*TOLD, *RENEWED]
    machine.install(state="inactive")
    assert machine.called()[7:] == ["daemon-reload"]


def test_nobody_waits_for_ever_for_what_is_restarted(machine: Machine, stand_in: StandIn) -> None:
    """A controller may wait for its store as long as it takes; with less patience than an installation has."""
    machine.host.run("mkdir", "-p", "/run/systemd/system")
    stand_ins = stand_in("systemctl", '[ "$1" = show ] && echo activating || exec sleep 60')
    service = "Service('overlay-controller.service')"
    renew = f"from overlayd.configuration.systemd_service import Service; print({service}.renew(0.2))"
    assert machine.host.run("env", f"PATH={stand_ins}:/usr/bin:/bin", sys.executable, "-c", renew) == "False\n"


def test_where_systemd_runs_what_goes_is_stopped(machine: Machine) -> None:
    machine.install()
    machine.host.run("mkdir", "-p", "/run/systemd/system")
    machine.install("--remove", "agent")
    assert machine.called() == ["disable --quiet --now overlayd.service", "daemon-reload"]


def test_everything_is_renewed_before_somebody_is_told_of_failures(machine: Machine) -> None:
    machine.host.run("mkdir", "-p", "/run/systemd/system")
    with pytest.raises(CommandFailed, match=r"(?s)restart overlay-controller.*failed.*restart overlayd.*failed"):
        machine.install(state="active", failing="restart")
    assert machine.called() == [*TOLD, *RENEWED]


def test_an_installation_does_not_fail_for_somebody_else_who_does_not_read_its_drop_ins(machine: Machine) -> None:
    machine.host.run("mkdir", "-p", "/run/systemd/system")
    machine.install("agent", state="active", failing="reload systemd-networkd")
    assert machine.called() == [*TOLD, "restart overlayd.service"]


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


def test_settings_have_a_directory_which_the_controllers_own_user_can_read(machine: Machine) -> None:
    machine.host.run("rm", "-rf", "/etc/overlayd")
    machine.host.run("sh", "-c", f"umask 077; {machine.programs}/overlayd install")
    assert machine.host.run("stat", "-c", "%a", "/etc/overlayd") == "755\n"
    machine.install("--remove", "agent")
    machine.host.run("test", "-d", "/etc/overlayd")
    machine.install("--remove")
    machine.host.run("test", "!", "-e", "/etc/overlayd")


def test_a_directory_with_settings_stays_as_it_is(machine: Machine) -> None:
    machine.host.run("sh", "-c", "mkdir -p /etc/overlayd; chmod 700 /etc/overlayd; : >/etc/overlayd/agent.toml")
    machine.install()
    machine.install("--remove")
    assert machine.host.run("stat", "-c", "%a", "/etc/overlayd") == "700\n"
    machine.host.run("test", "-e", "/etc/overlayd/agent.toml")


def test_a_removal_leaves_a_debian_package_its_plugin_and_its_directory(machine: Machine) -> None:
    machine.install()
    machine.overlayd("install-cni", "blue")
    machine.host.run("mount", "-t", "tmpfs", "tmpfs", "/lib/systemd")
    machine.host.run("mkdir", "-p", "/lib/systemd/system")
    machine.host.run("touch", "/lib/systemd/system/overlayd.service")  # as if it had been put over our own
    assert machine.overlayd("install-cni", "--remove") == "/etc/cni/net.d/10-overlayd-blue.conflist\n"
    machine.install("--remove")
    assert machine.files() == set(PLUGINS)
    machine.host.run("test", "-d", "/etc/overlayd")
    machine.host.run("rm", "/lib/systemd/system/overlayd.service")
    assert machine.overlayd("install-cni", "--remove") == "/opt/cni/bin/overlayd\n"


def test_beside_a_debian_package_nothing_is_installed(programs: Path, tmp_path: Path) -> None:
    unit = tmp_path / "lib/systemd/system/overlayd.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    command = [str(programs / "overlayd"), "install", "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "remove the package" in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [unit]
