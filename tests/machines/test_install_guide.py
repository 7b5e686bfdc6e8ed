"""docs/install.md taken by the word, on three machines that have nothing but the package's file."""

import re
from pathlib import Path

import pytest

from tests.support.guide import blocks
from tests.support.lab import ROOT
from tests.support.machines import Machine

EVERY_DEVICE = """\
[Match]
Name=*

[Network]
DHCP=yes
"""
"""What an administrator may have: all devices are systemd-networkd's."""


@pytest.fixture(scope="module")
def cluster(machines: list[Machine]) -> list[Machine]:
    """Make a cluster with the three commands of the page; the second one prints the third."""
    install, init, join, hosts = blocks("A cluster in three commands")
    for machine in machines:
        machine.shell(f"cd /root\n{install}")
        assert {machine.property(unit, "ActiveState") for unit in ("overlayd", "overlay-controller")} == {"inactive"}
    printed = machines[0].shell(init)
    assert re.sub(r"ovj_\w+", "ovj_…", printed) == join
    for machine in machines:
        assert "in sync with a controller" in machine.shell(printed)
    listed = machines[0].shell(hosts)
    assert all(machine.name in listed for machine in machines)
    return machines


def test_a_container_reaches_one_on_another_host_also_when_networkd_wants_every_device(cluster: list[Machine]) -> None:
    create, configure = blocks("First network")
    attach, ping, detach = blocks("First container")
    here, there, _ = cluster
    assert "blue" in here.shell(create)
    for machine in cluster:
        assert "/etc/cni/net.d/10-overlayd-blue.conflist" in machine.shell(configure)
    assert "inet 10.32.0.2/32" in here.shell(attach)
    there.shell(attach.replace("name=first", "name=second"))
    here.shell("sudo overlayctl wait")
    assert "3 received" in there.shell(f"name=second\n{ping}")

    there.write("/etc/systemd/network/zz-every-device.network", EVERY_DEVICE)  # after that of the underlay
    there.run("systemctl", "restart", "systemd-networkd", "systemd-networkd-wait-online")
    assert re.search(r"\bov1 +ether +routable +unmanaged", there.run("networkctl", "list", "--no-pager"))
    assert "3 received" in there.shell(f"name=second\n{ping}")

    here.shell(f"name=first\n{detach}")
    there.shell(f"name=second\n{detach}")
    for machine in cluster:
        assert machine.shell("sudo overlayd plan").startswith("nothing to do")


def test_the_units_of_an_installation_of_0_1_make_room_for_the_packages(cluster: list[Machine]) -> None:
    page = (ROOT / "docs/upgrade.md").read_text()
    steps = re.search(r"## From an installation of 0\.1\n.*?```\n(.*?)```", page, re.DOTALL)
    assert steps
    machine = cluster[2]
    machine.shell(
        "cp /lib/systemd/system/overlayd.service /etc/systemd/system; mkdir -p /opt/overlayd/bin;"
        " ln -s /usr/lib/overlayd/bin/overlayd /opt/overlayd/bin; ln -s /opt/overlayd/bin/overlayd /usr/local/bin/;"
        " systemctl daemon-reload; systemctl reenable overlayd; systemctl restart overlayd"
    )
    assert Path(machine.property("overlayd", "FragmentPath")).parts[:2] == ("/", "etc")
    machine.shell(f"cd /root\n{steps[1]}")
    assert Path(machine.property("overlayd", "FragmentPath")).parts[:2] != ("/", "etc")
    assert machine.property("overlayd", "UnitFileState") == "enabled"
    assert machine.property("overlayd", "ActiveState") == "active"
    machine.shell("test ! -e /opt/overlayd; test ! -e /usr/local/bin/overlayd; overlayd status")
