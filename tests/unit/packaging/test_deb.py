"""The scripts of the Debian package, on a simulated host; tests/machines installs the package itself."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from tests.support.controllers import clusters
from tests.support.lab.lab import COMMANDS, ROOT, CommandFailed, Lab, LabHost

StandIn = Callable[[str, str], Path]

DEB = ROOT / "packaging/deb"
SCRIPTS = [*sorted(DEB.glob("*.sh")), *sorted((ROOT / "vagrant").glob("*.sh"))]


@pytest.mark.parametrize("script", ["preinst", "postinst", "postrm", "prerm"])
def test_a_plain_shell_can_read_the_maintainer_scripts(script: str) -> None:
    subprocess.run(["sh", "-n", DEB / script], check=True)
    assert (DEB / script).read_text().startswith("#!/bin/sh\n")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_every_other_script_and_it_may_be_executed(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree with as much as a build reads before it asks pip for anything."""
    tree = tmp_path / "tree"
    (tree / "packaging/deb").mkdir(parents=True)
    shutil.copy(DEB / "build.sh", tree / "packaging/deb")
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tree)
    (tree / "cni").mkdir()
    (tree / "cni/launcher").touch(mode=0o755)
    return tree


def build(tree: Path, stand_ins: Path) -> str:
    """Run the build with a pip that refuses; return what is said."""
    environment = {
        "PATH": f"{stand_ins}:/usr/bin:/bin",
        "HOME": str(tree),
        "PIP": "pip",
        "GIT_CEILING_DIRECTORIES": "/",
    }
    command = [tree / "packaging/deb/build.sh", tree / "dist"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode
    return done.stderr


@pytest.mark.usefixtures("root")  # which gives the tree to somebody else
def test_a_tree_of_another_user_is_built_as_of_its_last_commit(tree: Path, stand_in: StandIn) -> None:
    author = ["-c", "user.name=somebody", "-c", "user.email=somebody@localhost"]
    for command in (["init", "--quiet"], ["add", "."], [*author, "commit", "--quiet", "--message=first"]):
        subprocess.run(["git", "-C", tree, *command], check=True)
    subprocess.run(["chown", "-R", "nobody", tree], check=True)
    assert build(tree, stand_in("pip", "echo pip was asked as of $SOURCE_DATE_EPOCH >&2; exit 1")) == (
        "pip was asked as of "
        + subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", tree, "log", "-1", "--format=%ct"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


def test_a_tree_without_git_is_built_as_of_a_time_that_somebody_says(tree: Path, stand_in: StandIn) -> None:
    said = build(tree, stand_in("pip", "exit 1"))
    assert "not a git repository" in said
    assert said.endswith("set SOURCE_DATE_EPOCH=SECONDS\n")


@pytest.fixture
def lab(root: None, tmp_path: Path) -> Iterator[Lab]:  # noqa: ARG001 - makes namespaces
    with Lab(tmp_path / "lab", hosts=1) as lab:
        for host in lab.hosts:
            # Nobody is asked, and nothing is kept, in the database of the machine below.
            host.run("mount", "-t", "tmpfs", "tmpfs", "/usr/share/debconf")
        yield lab


def attach(host: LabHost, directory: Path, *containers: str) -> None:
    """Leave the records of containers that are attached."""
    records = AttachmentRecords(directory)
    for number, container in enumerate(containers, 2):
        records.put(Attachment(clusters.endpoint(1, container, f"10.32.0.{number}"), (4, number)))
    host.run("mkdir", "-p", "/run/overlayd")
    host.run("cp", "-R", str(directory), "/run/overlayd/attachments")
    shutil.rmtree(directory)


def test_a_removal_is_refused_while_containers_are_attached_unless_they_may_be_cut_off(
    lab: Lab, tmp_path: Path
) -> None:
    (host,) = lab.hosts
    host.run(str(DEB / "prerm"), "remove")
    attach(host, tmp_path / "records", "web", "db")
    with pytest.raises(CommandFailed, match=r"(?s)attached to overlay networks:\n  db\n  web\n.*OVERLAYD_CUT_OFF=1"):
        host.run(str(DEB / "prerm"), "remove")
    host.run(str(DEB / "prerm"), "upgrade", "0.3.0")
    host.run("env", "OVERLAYD_CUT_OFF=1", str(DEB / "prerm"), "remove")


OF_THE_HOST = (
    "/etc/cni/net.d/10-overlayd-blue.conflist",
    "/etc/overlayd/agent.toml",
    "/etc/systemd/system/multi-user.target.wants/overlayd.service",
    "/etc/systemd/system/overlay-controller.service.d/override.conf",
    "/var/lib/overlay-controller/store.db",
    "/var/lib/overlayd/host-id",
)
"""What a purge takes away besides what is in /run."""


def leave(host: LabHost, *paths: str) -> None:
    """Make files of a host, in directories that other hosts do not see."""
    host.run("mount", "-t", "tmpfs", "tmpfs", "/etc/systemd")
    host.run("sh", "-ec", 'for path; do mkdir -p "${path%/*}"; : >"$path"; done', "sh", *paths)


def found(host: LabHost, *paths: str) -> list[str]:
    return host.run("sh", "-c", 'ls -d "$@" 2>/dev/null || true', "sh", *paths).split()


def test_a_purge_leaves_nothing_that_the_programs_would_know(lab: Lab) -> None:
    (host,) = lab.hosts
    lab.start_controller()
    host.start_agent()
    lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
    lab.overlayctl("network", "create", "green", "--range", "10.33.0.0/16", "--topology", "switched")
    for network in ("blue", "green"):
        lab.in_force(host.attach(f"c-{network}", network))
    host.stop_agent()
    assert "ov-blue" in host.run("ip", "netns", "list")
    assert "overlayd" in host.run("nft", "list", "tables")
    leave(host, *OF_THE_HOST, "/etc/cni/net.d/10-other.conflist")

    host.run(str(DEB / "postrm"), "remove")
    assert "ov-blue" in host.run("ip", "netns", "list")
    assert found(host, *OF_THE_HOST) == list(OF_THE_HOST)
    host.run(str(DEB / "postrm"), "purge")
    assert found(host, *OF_THE_HOST, "/run/overlayd", "/etc/overlayd", "/var/lib/overlayd") == []
    assert found(host, "/etc/cni/net.d/10-other.conflist")
    assert "nothing of overlayd in the kernel" in host.run(str(COMMANDS / "overlayd"), "cleanup")
    assert "ov-" not in host.run("ip", "netns", "list")
    host.run(str(DEB / "postrm"), "purge")


@pytest.mark.parametrize("unit", ["overlayd.service", "overlay-controller.service"])
def test_a_purge_leaves_a_host_alone_that_has_another_installation_by_then(
    lab: Lab, tmp_path: Path, stand_in: StandIn, unit: str
) -> None:
    (host,) = lab.hosts
    calls = tmp_path / "calls"
    stand_ins = stand_in("systemctl", f'echo "$*" >>{calls}')
    everything = (*OF_THE_HOST, "/run/overlayd/attachments/web.json")
    leave(host, *everything, f"/etc/systemd/system/{unit}")
    host.run("ip", "netns", "add", "ov-blue")
    host.run("mkdir", "-p", "/run/systemd/system")
    script = f"PATH={stand_ins}:$PATH {DEB / 'postrm'} purge 2>&1"
    assert "another installation" in host.run("sh", "-ec", script)
    assert found(host, *everything) == sorted(everything)
    assert "ov-blue" in host.run("ip", "netns", "list")
    assert calls.read_text().splitlines() == ["daemon-reload"]


@dataclass(frozen=True, slots=True)
class Systemd:
    """A host on which systemctl and timeout only note what they are asked for."""

    host: LabHost
    stand_ins: Path
    calls: Path

    def run(self, script: str, *arguments: str) -> str:
        """Run a maintainer script; return what it says."""
        environment = f"PATH={self.stand_ins}:{os.environ['PATH']}"
        return self.host.run("sh", "-c", '"$@" 2>&1', "sh", "env", environment, str(DEB / script), *arguments)

    def called(self) -> list[str]:
        """Return what was done, without questions."""
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [call for call in calls if not re.search(r"^systemctl (show|--quiet is-)", call)]


@pytest.fixture
def systemd(lab: Lab, tmp_path: Path, stand_in: StandIn) -> Callable[[str], Systemd]:
    """Make systemd out of what it answers; systemd-networkd is active, if that says nothing else."""

    def make(answers: str) -> Systemd:
        (host,) = lab.hosts
        calls = tmp_path / "calls"
        host.run("mkdir", "-p", "/run/systemd/system")
        stand_in("timeout", f'echo "timeout $*" >>{calls}; shift; exec /usr/bin/timeout 2 "$@"')
        script = (
            f'echo "systemctl $*" >>{calls}\ncase "$*" in\n{answers}\n*systemd-networkd*) exit 0 ;;\n*) exit 1 ;;\nesac'
        )
        return Systemd(host, stand_in("systemctl", script), calls)

    return make


NOTHING_RUNS = """*daemon-reload) exit 0 ;;
*show*) echo inactive ;;"""


def with_patience(verb: str, unit: str) -> list[str]:
    command = f"systemctl --no-ask-password {verb} {unit}"
    return [f"timeout 60 {command}", command]


RELOADED = ["systemctl daemon-reload", *with_patience("reload", "systemd-networkd.service")]


@pytest.mark.parametrize("state", ["active", "activating", "reloading"])
def test_an_upgrade_restarts_what_runs_ready_or_not(systemd: Callable[[str], Systemd], state: str) -> None:
    machine = systemd(
        f"*daemon-reload) exit 0 ;;\n*show*overlay-controller*) echo {state} ;;\n*show*) echo inactive ;;"
    )
    said = machine.run("postinst", "configure", "0.1.9")  # it does not start: that is not the package's fault
    assert "overlay-controller.service has not started" in said
    assert machine.called() == [*RELOADED, *with_patience("restart", "overlay-controller.service")]


def test_an_upgrade_does_not_wait_for_a_controller_that_waits_for_its_store(
    systemd: Callable[[str], Systemd],
) -> None:
    runs = "*daemon-reload) exit 0 ;;\n*show*) echo active ;;"
    machine = systemd(f"{runs}\n*restart*controller*) exec sleep 60 ;;\n*restart*) exit 0 ;;")
    said = machine.run("postinst", "configure", "0.1.9")
    assert said == (
        "overlayd: overlay-controller.service is not ready after 60 s and keeps starting:"
        " see journalctl --unit overlay-controller.service\n"
    )
    assert machine.called()[-2:] == with_patience("restart", "overlayd.service")


def test_a_return_starts_what_is_enabled(systemd: Callable[[str], Systemd]) -> None:
    machine = systemd(f"{NOTHING_RUNS}\n*is-enabled*overlayd*) exit 0 ;;\n*start*) exit 0 ;;")
    machine.run("preinst", "install", "0.1.9")
    assert machine.run("postinst", "configure", "0.1.9") == ""
    once = [*RELOADED, *with_patience("start", "overlayd.service")]
    assert machine.called() == once
    machine.run("postinst", "configure", "0.1.9")
    assert machine.called() == [*once, *RELOADED]


def test_a_first_installation_starts_nothing(systemd: Callable[[str], Systemd]) -> None:
    machine = systemd(NOTHING_RUNS)
    machine.run("preinst", "install")
    machine.run("postinst", "configure", "")
    assert machine.called() == RELOADED


NETWORKMANAGER = (
    "*is-active*systemd-networkd*) exit 3 ;;\n*is-active*NetworkManager*) exit 0 ;;\n*reload*NetworkManager*)"
)


def test_networkmanager_is_told_of_the_drop_ins_where_it_runs(systemd: Callable[[str], Systemd]) -> None:
    machine = systemd(f"{NETWORKMANAGER} exit 0 ;;\n{NOTHING_RUNS}")
    assert machine.run("postinst", "configure", "") == ""
    assert machine.called() == ["systemctl daemon-reload", *with_patience("reload", "NetworkManager.service")]


def test_networkmanager_that_does_not_listen_is_no_fault_of_the_package(systemd: Callable[[str], Systemd]) -> None:
    machine = systemd(f"{NETWORKMANAGER} exit 1 ;;\n{NOTHING_RUNS}")
    assert "NetworkManager.service may still change" in machine.run("postinst", "configure", "")


def test_the_drop_ins_are_in_force_until_the_networks_are_gone(systemd: Callable[[str], Systemd]) -> None:
    machine = systemd(NOTHING_RUNS)
    machine.run("postrm", "remove")
    assert machine.called() == ["systemctl daemon-reload"]
    machine.run("postrm", "purge")
    assert machine.called()[1:] == [*RELOADED[1:], RELOADED[0]]
