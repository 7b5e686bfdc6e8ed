"""docs/systemd.md by the word, on a machine with systemd."""

import json
import re

import pytest

from tests.support.lab.lab import ROOT
from tests.support.lab.processes import eventually
from tests.support.machines.machines import Machine
from tests.support.pages.guide import blocks

PAGE = (ROOT / "docs/systemd.md").read_text()


@pytest.fixture(scope="module")
def machine(machines: list[Machine]) -> Machine:
    """A machine that is its own controller, with the page's network."""
    (made, *_) = machines
    made.shell("apt-get -qq install ./overlayd_*.deb </dev/null")
    said = made.run("overlay-controller", "init", "--listen", str(made.address))
    (joining,) = [line for line in said.splitlines() if "overlayd join" in line]
    assert "in sync with a controller" in made.shell(joining)
    (network,) = re.findall(r"^overlayctl network create .*$", PAGE, re.MULTILINE)
    made.shell(network)
    return made


def namespaces(machine: Machine) -> set[str]:
    return {line.split()[0] for line in machine.run("ip", "netns", "list").splitlines()}


def test_a_namespace_comes_and_goes_by_hand(machine: Machine) -> None:
    (commands,) = blocks("By hand", PAGE)
    said = machine.shell(commands)
    assert re.search(r"web: eth0 in blue: 10\.32\.[\d.]+/32, MAC ", said)
    assert re.search(r"inet 10\.32\.", said)
    assert "web" not in namespaces(machine)


def test_a_service_runs_in_the_namespace_of_its_unit(machine: Machine) -> None:
    for block in blocks("A unit", PAGE):
        machine.shell(block)
    (attached,) = json.loads(machine.run("overlayd", "netns", "list", "--json"))["attachments"]
    assert (attached["namespace"], attached["network"]) == ("shop", "blue")
    (address,) = attached["addresses"]

    def served(where: str) -> bool:
        return machine.execute("bash", "-c", f"exec 3<>/dev/tcp/{where}").returncode == 0

    eventually(lambda: served(f"{address}/8000"), "the host reaches the service at its address")
    assert served(f"{machine.address}/8081"), "and by its published port"

    machine.run("systemctl", "restart", "overlayd")
    assert served(f"{address}/8000")
    machine.run("systemctl", "stop", "overlayd-netns@shop")
    assert machine.property("shop", "ActiveState") == "inactive", "it is bound to its namespace"
    assert "shop" not in namespaces(machine)
    machine.run("systemctl", "start", "shop", "overlayd-netns@shop")
    eventually(lambda: served(f"{machine.address}/8081"), "both start again")


def test_a_unit_waits_for_its_agent_and_says_what_is_wrong(machine: Machine) -> None:
    machine.write("/etc/overlayd/netns/lost.env", "NETWORK=nowhere\nOPTIONS=--wait 0\n")
    assert machine.execute("systemctl", "start", "overlayd-netns@lost").returncode != 0
    assert "overlayd: --network: " in machine.journal("overlayd-netns@lost")
    assert "lost" not in namespaces(machine)
