"""docs/upgrade.md by the word: machines on which overlayd was installed in another way come to the package."""

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.support.agents.released import V010
from tests.support.lab.lab import ROOT
from tests.support.lab.processes import eventually
from tests.support.machines.machines import Machine, Sandbox, together
from tests.support.pages.guide import UPGRADE, blocks

AGENT, CONTROLLER = "overlayd.service", "overlay-controller.service"
COMMANDS = ("overlay-controller", "overlayctl", "overlayd")

ENVIRONMENT = r"""
mkdir -p /opt
dpkg-deb -x {package} tree
mv tree/usr/lib/overlayd /opt/overlayd
rm -r tree
sed -i '1s|/usr/lib/overlayd|/opt/overlayd|' /opt/overlayd/bin/overlay*
"""
"""An environment as pip makes it in /opt/overlayd, of what the package has."""

RELEASE = """
cd /opt/overlayd/lib/python3.*/site-packages
rm -r cni controller overlayd
python3 -m zipfile -e /root/overlayd-0.1.0.zip .
tar -xf /root/dependency.tar
sed -i 's/^Version: .*/Version: 0.1.0/' overlayd-*/METADATA
cd
mkdir -p /etc/overlayd
ln -s /opt/overlayd/bin/overlay* /usr/local/bin
"""
"""What packaging/install.sh of 0.1 did, but for units and the plugin."""


@pytest.fixture(scope="module")
def dependency(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that 0.1 used, and the package no longer has."""
    made = tmp_path_factory.mktemp("dependency") / "netaddr.tar"
    subprocess.run(["tar", "-C", sysconfig.get_path("purelib"), "-cf", made, "netaddr"], check=True)
    return made


def become_0_1(machine: Machine, package: Path, dependency: Path, unit: str, settings: str) -> None:
    """Install 0.1.0, with one of its services, as its page said."""
    name = unit.removesuffix(".service")
    machine.give(V010.path, f"/root/{V010.path.name}")
    machine.give(dependency, "/root/dependency.tar")
    machine.shell(ENVIRONMENT.format(package=package.name) + RELEASE)
    text = (ROOT / "packaging/systemd" / unit).read_text()
    # 0.1 gave no signs of life.
    machine.write(
        f"/etc/systemd/system/{unit}", re.sub("WatchdogSec=.*", "", text).replace("/usr/bin", "/opt/overlayd/bin")
    )
    machine.write(f"/etc/overlayd/{'agent' if unit == AGENT else 'controller'}.env", settings)
    if unit == AGENT:
        machine.shell("/opt/overlayd/bin/python -m cni.install")
    machine.shell(f"systemctl enable --now {name} || journalctl -u {name}; systemctl is-active {name} >&2")
    assert machine.run(f"/usr/local/bin/{name}", "--version").split()[-1] == "0.1.0"


def check_package(machine: Machine, unit: str, other: str) -> None:
    """Check that one of the package's services runs, that there is no other, and nothing of what was there before."""
    assert machine.property(unit, "FragmentPath").endswith(f"lib/systemd/system/{unit}")
    assert "/usr/bin/" in machine.property(unit, "ExecStart")
    assert (machine.property(unit, "UnitFileState"), machine.property(unit, "ActiveState")) == ("enabled", "active")
    assert (machine.property(other, "UnitFileState"), machine.property(other, "ActiveState")) == (
        "disabled",
        "inactive",
    )
    machine.shell("test ! -e /opt/overlayd")
    assert machine.execute("sh", "-c", "ls /usr/local/bin/overlay*").stdout == ""


def test_a_cluster_of_0_1_comes_to_the_package_and_to_tls(
    machines: list[Machine], package: Path, dependency: Path
) -> None:
    controller, *hosts = machines
    insecure, upgrade, initialise, join = blocks("From an installation of 0.1", UPGRADE)
    become_0_1(
        controller, package, dependency, CONTROLLER, 'OVERLAY_CONTROLLER_LISTEN="127.0.0.1:7471 10.0.0.1:7471"\n'
    )
    together(
        hosts, lambda host: become_0_1(host, package, dependency, AGENT, 'OVERLAYD_CONTROLLER="http://10.0.0.1:7471"\n')
    )
    controller.run("overlayctl", "network", "create", "blue", "--range", "10.32.0.0/16")
    here, there = (host.attach("blue", "web") for host in hosts)
    await_ping(here, there)

    controller.shell(insecure)
    controller.shell(upgrade)
    check_package(controller, CONTROLLER, AGENT)
    together(hosts, lambda host: host.shell(upgrade))
    for host in hosts:
        check_package(host, AGENT, CONTROLLER)
        host.run("overlayd", "status")
    assert here.ping(there.address)

    printed = controller.shell(initialise)
    line = re.search(r"^ *(echo '(ovj_\w+)' .*)$", printed, re.MULTILINE)
    assert line
    assert line[1] in join.replace("ovj_…", line[2])
    for host in hosts:
        assert "in sync with a controller" in host.shell(join.replace("ovj_…", line[2]))
    listed = controller.run("overlayctl", "host", "list")
    assert all(host.name in listed for host in hosts)
    later = hosts[0].attach("blue", "later")
    await_ping(later, there)
    assert here.ping(there.address)


def await_ping(source: Sandbox, destination: Sandbox) -> None:
    eventually(lambda: source.ping(destination.address), "the hosts know each other", source.machine.patience)


def test_an_environment_of_pips_comes_to_the_package_and_keeps_a_container(
    machines: list[Machine], package: Path, tmp_path: Path
) -> None:
    machine = machines[0]
    machine.shell("dpkg --purge overlayd")  # which an earlier test may have left
    shipped = tmp_path / "shipped.tar"
    parts = ("NetworkManager", "network", "systemd")
    subprocess.run(["tar", "-C", ROOT / "packaging", "-cf", shipped, *parts], check=True)
    machine.give(shipped, "/root/shipped.tar")
    machine.shell(
        f"{ENVIRONMENT.format(package=package.name)}mkdir -p /opt/overlayd/share/overlayd\n"
        "tar -C /opt/overlayd/share/overlayd -xf shipped.tar\n/opt/overlayd/bin/overlayd install"
    )
    start_controller, start_agent, log_in = blocks("Without TLS")
    machine.shell(start_controller)
    machine.shell(start_agent)
    machine.shell(f"{log_in}\noverlayctl network create blue --range 10.32.0.0/16")
    kept = machine.attach("blue", "kept")

    to_package, start = blocks("From pip's environment to the package", UPGRADE)
    machine.shell(to_package)
    assert machine.property(AGENT, "FragmentPath").endswith(f"lib/systemd/system/{AGENT}")
    machine.shell(start)
    new = machine.attach("blue", "new")
    assert kept.ping(new.address)
    assert machine.execute("sh", "-c", "ls /usr/local/bin/overlay* /etc/systemd/system/overlay*").stdout == ""
    changed = machine.execute("dpkg", "--verify", "overlayd")
    assert (changed.returncode, changed.stdout) == (0, "")
