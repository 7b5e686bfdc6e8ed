"""docs/install.md by the word: three machines become a cluster, get a network and containers, and lose it all again."""

import json
import re

from tests.support.machines.machines import Machine, remains
from tests.support.pages.guide import blocks


def test_three_commands_make_a_cluster_of_three_machines_and_one_takes_all_away(machines: list[Machine]) -> None:
    install, initialise, join, show = blocks("A cluster in three commands")
    first = machines[0]
    for machine in machines:
        machine.shell(install)
        assert machine.property("overlayd", "UnitFileState") == "disabled"
        assert machine.property("overlayd", "ActiveState") == "inactive"
    printed = first.shell(initialise)
    line = re.search(r"^ *(echo '(ovj_\w+)' .*)$", printed, re.MULTILINE)
    assert line
    assert line[1] == join.strip().replace("ovj_…", line[2])
    for machine in machines:
        machine.shell(line[1])
        assert machine.property("overlayd", "UnitFileState") == "enabled"
    assert all(machine.name in first.shell(show) for machine in machines)

    (network, configure) = blocks("First network")
    assert "10.32.0.0/16" in first.shell(network)
    for machine in machines:
        machine.shell(configure)
        assert json.loads(machine.run("cat", "/etc/cni/net.d/10-overlayd-blue.conflist"))["name"] == "blue"
    containers(machines)
    (looks,) = blocks("Look into it")
    first.shell(looks.replace("man overlayd\n", ""))  # a machine without man

    remove, purge, _ = blocks("Remove")
    for machine in machines:
        machine.shell(remove, stdin="y\n")
        assert machine.property("overlayd", "ActiveState") == "inactive"
        machine.shell(purge, stdin="y\n")
        assert remains(machine) == []


def containers(machines: list[Machine]) -> None:
    """Attach a container on each of two machines, ping each from the other one, and detach them."""
    attach, ping, detach = blocks("First container")
    names = {machine: f"name=container-{machine.name}" for machine in machines[:2]}
    addresses = {}
    for machine, name in names.items():
        assert "name=first\n" in attach
        (addresses[machine],) = re.findall(r"inet (10\.32[\d.]+)/", machine.shell(attach.replace("name=first", name)))
    here, there = names
    here.run("overlayctl", "wait")
    for source, destination in ((here, there), (there, here)):
        command = ping.replace("10.32.0.2", addresses[destination])
        assert " 0% packet loss" in source.shell(f"{names[source]}\n{command}")
    for machine, name in names.items():
        machine.shell(f"{name}\n{detach}")
