"""Containers that are limited, measured."""

import json

import pytest

from tests.integration.conftest import NewNetwork
from tests.support.lab.lab import Container, Lab, plugin_config
from tests.support.lab.processes import eventually
from tests.support.packets.conversation import Server, transfer

MEGABIT = 1_000_000


def limited(lab: Lab, name: str, network: str, **bandwidth: int) -> Container:
    return lab.hosts[0].attach(name, network, runtimeConfig={"bandwidth": bandwidth})


def rates(source: Container, to: Container) -> float:
    """Return how fast a container sends to another one, in bits per second."""
    with Server(to.enter, str(to.address)) as server:
        return transfer(source.enter, str(to.address), server.port)


@pytest.mark.parametrize("topology", ["routed", "switched"])
def test_a_limit_holds_in_its_direction_and_leaves_the_other_alone(
    lab: Lab, new_network: NewNetwork, topology: str
) -> None:
    network = new_network("--topology", topology)
    slow_in = limited(lab, f"{network}-in", network, ingressRate=8 * MEGABIT, ingressBurst=400_000)
    slow_out = limited(lab, f"{network}-out", network, egressRate=8 * MEGABIT, egressBurst=400_000)
    free = lab.hosts[0].attach(f"{network}-free", network)
    assert 5 * MEGABIT < rates(free, slow_in) < 9 * MEGABIT
    assert 5 * MEGABIT < rates(slow_out, free) < 9 * MEGABIT
    assert rates(slow_in, free) > 40 * MEGABIT
    assert rates(free, slow_out) > 40 * MEGABIT


def test_a_limit_outlives_the_agent_and_comes_back(own_lab: Lab) -> None:
    own_lab.overlayctl("network", "create", "blue", "--range", "10.63.0.0/16")
    host = own_lab.hosts[0]
    web = limited(own_lab, "web", "blue", ingressRate=8 * MEGABIT, egressRate=16 * MEGABIT)

    def shown() -> str:
        return host.run("tc", "-n", "ov-blue", "qdisc", "show")

    before = shown()
    assert "tbf 6f76: dev ve" in before
    assert "rate 8Mbit" in before
    assert "rate 16Mbit" in web.run("tc", "qdisc", "show", "dev", "eth0")
    host.stop_agent()
    device = before.partition(" dev ")[2].split()[0] if before.startswith("qdisc tbf") else ""
    device = device or next(line.split()[4] for line in before.splitlines() if " tbf " in line)
    host.run("tc", "-n", "ov-blue", "qdisc", "del", "dev", device, "root")
    host.start_agent()
    eventually(lambda: shown() == before, "the limit is there again")
    listed = json.loads(host.run("tc", "-n", "ov-blue", "-j", "qdisc", "show", "dev", device))
    assert listed[0]["kind"] == "tbf"


def test_what_is_no_rate_is_refused(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network()
    config = plugin_config(network, runtimeConfig={"bandwidth": {"ingressRate": 5}})
    name = f"{network}-c"
    refused = lab.hosts[0].cni("ADD", config, CONTAINERID=name, NETNS=lab.hosts[0].add_sandbox(name), IFNAME="eth0")
    assert (refused.status, refused.json["code"]) == (1, 7)
    assert "runtimeConfig.bandwidth.ingressRate: 5 is not in 1000.." in str(refused.json["msg"])
