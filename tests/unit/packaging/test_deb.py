"""The scripts of the Debian package, on a simulated host; tests/machines installs the package itself."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from overlayd.agent.checkpoint import Attachment, AttachmentRecords
from tests.support import clusters
from tests.support.lab import COMMANDS, ROOT, CommandFailed, Lab, LabHost

StandIn = Callable[[str, str], Path]

DEB = ROOT / "packaging/deb"
SCRIPTS = [DEB / "build.sh", *sorted((ROOT / "vagrant").glob("*.sh"))]


@pytest.mark.parametrize("script", ["preinst", "postinst", "postrm", "prerm"])
def test_a_plain_shell_can_read_the_maintainer_scripts(script: str) -> None:
    subprocess.run(["sh", "-n", DEB / script], check=True)
    assert (DEB / script).read_text().startswith("#!/bin/sh\n")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_every_other_script_and_it_may_be_executed(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)


@pytest.fixture
def lab(root: None, tmp_path: Path) -> Iterator[Lab]:  # noqa: ARG001 - makes namespaces
    with Lab(tmp_path / "lab", hosts=1) as lab:
        for host in lab.hosts:
            # Nobody is asked, and nothing is kept, in the database of the machine below.
            host.run("mount", "-t", "tmpfs", "tmpfs", "/usr/share/debconf")
        yield lab


def attach(host: LabHost, directory: Path) -> None:
    """Leave the record of a container that is attached."""
    records = AttachmentRecords(directory)
    records.put(Attachment(clusters.endpoint(1, "web", "10.32.0.2"), (4, 1)))
    host.run("mkdir", "-p", "/run/overlayd")
    host.run("cp", "-R", str(directory), "/run/overlayd/attachments")
    shutil.rmtree(directory)


def test_a_removal_is_refused_while_containers_are_attached_unless_they_may_be_cut_off(
    lab: Lab, tmp_path: Path
) -> None:
    (host,) = lab.hosts
    host.run(str(DEB / "prerm"), "remove")
    attach(host, tmp_path / "records")
    with pytest.raises(CommandFailed, match=r"(?s)attached to overlay networks:\n  web\n.*OVERLAYD_CUT_OFF=1"):
        host.run(str(DEB / "prerm"), "remove")
    host.run(str(DEB / "prerm"), "upgrade", "0.3.0")
    host.run("env", "OVERLAYD_CUT_OFF=1", str(DEB / "prerm"), "remove")


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

    host.run(str(DEB / "postrm"), "remove")
    assert "ov-blue" in host.run("ip", "netns", "list")
    host.run(str(DEB / "postrm"), "purge")
    assert "nothing of overlayd in the kernel" in host.run(str(COMMANDS / "overlayd"), "cleanup")
    assert "ov-" not in host.run("ip", "netns", "list")
    kept = host.run(
        "sh", "-c", "ls -d /etc/overlayd /run/overlayd /var/lib/overlayd /etc/cni/net.d/10-overlayd-* || true"
    )
    assert kept.split() == ["/run/overlayd"]  # of the command before
    host.run(str(DEB / "postrm"), "purge")


@pytest.mark.parametrize("comes_back", [False, True])
def test_an_upgrade_restarts_what_runs_and_a_return_starts_what_is_enabled(
    lab: Lab, tmp_path: Path, stand_in: StandIn, *, comes_back: bool
) -> None:
    (host,) = lab.hosts
    calls = tmp_path / "calls"
    stand_ins = stand_in("systemctl", f'echo "$*" >>{calls}; [ "$1" != start ] && [ "$1" != try-restart ]')
    host.run("mkdir", "-p", "/run/systemd/system")
    if comes_back:
        host.run(str(DEB / "preinst"), "install", "0.1.9")
    environment = f"PATH={stand_ins}:{os.environ['PATH']}"
    host.run(
        "env", environment, str(DEB / "postinst"), "configure", "0.1.9"
    )  # none of them starts: that is not its fault
    verb = "start" if comes_back else "try-restart"
    done = [line for line in calls.read_text().splitlines() if "is-enabled" not in line]
    assert done == ["daemon-reload", f"{verb} overlay-controller.service", f"{verb} overlayd.service"]


def test_a_first_installation_starts_nothing(lab: Lab, tmp_path: Path, stand_in: StandIn) -> None:
    (host,) = lab.hosts
    calls = tmp_path / "calls"
    stand_ins = stand_in("systemctl", f'echo "$*" >>{calls}')
    host.run("mkdir", "-p", "/run/systemd/system")
    host.run(str(DEB / "preinst"), "install")
    host.run("env", f"PATH={stand_ins}:{os.environ['PATH']}", str(DEB / "postinst"), "configure", "")
    assert not [line for line in calls.read_text().splitlines() if line.split()[0] in {"start", "restart", "enable"}]
