"""Hosts that exchange their underlay addresses: each gives up its old one first, so that all get their new ones."""

import json
from collections.abc import Iterator

import pytest

from tests.integration.conftest import SELDOM
from tests.support.lab.lab import Container, Lab
from tests.support.lab.processes import eventually


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), hosts=3) as made:
        made.start_controller()
        for host in made.hosts:
            host.start_agent(*SELDOM)
        yield made


def addresses(lab: Lab) -> dict[str, str]:
    hosts = json.loads(lab.overlayctl("host", "list", "--json"))
    return {host["name"]: host["address"] for host in hosts if host["connected"]}


def all_reach_each_other(containers: list[Container]) -> bool:
    pairs = [(one, other) for one in containers for other in containers if one is not other]
    return all(one.ping(other.address, wait=0.3) is not None for one, other in pairs)


@pytest.mark.parametrize("topology", ["routed", "switched"])
def test_three_hosts_that_rotate_their_addresses_carry_traffic_again(lab: Lab, topology: str) -> None:
    lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16", "--topology", topology)
    containers = [host.attach(f"c-{host.name}", "blue") for host in lab.hosts]
    lab.in_force(*containers)
    eventually(lambda: all_reach_each_other(containers), "traffic passes before")
    known = addresses(lab)
    new = [lab.hosts[(index + 1) % 3].address for index in range(3)]
    for host in lab.hosts:
        host.run("ip", "address", "del", f"{host.address}/24", "dev", "eth0")
    for host, address in zip(lab.hosts, new, strict=True):
        host.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
    wanted = {host.name: str(address) for host, address in zip(lab.hosts, new, strict=True)}
    assert wanted != known
    eventually(lambda: addresses(lab) == wanted, "every host is known at its new address")
    eventually(lambda: all_reach_each_other(containers), "traffic passes again")
