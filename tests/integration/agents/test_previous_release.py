"""Hosts and controllers of the previous release and of this one, in each mixture that an upgrade or its way back has.

Traffic, attaching and detaching go on, addresses and devices stay, and no problem is left.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.integration.agents.test_upgrade import identities, kernel_of
from tests.integration.traffic.test_ports import PORT as SERVED
from tests.integration.traffic.test_ports import serve
from tests.support.agents import released
from tests.support.agents.released import Release
from tests.support.controllers.etcd import EtcdCluster
from tests.support.lab.lab import Container, Executed, Lab, LabHost, plugin_config
from tests.support.lab.processes import eventually
from tests.support.packets.conversation import ask
from tests.support.packets.ping_stream import Pinging

SLOW = 30.0
PORTS = {"blue": 8080, "lan": 8081}
"""The hosts' ports that lead to the containers that stay."""

RANGES = {
    "blue": ["--range", "10.40.0.0/16", "--range", "fd00:40::/48"],
    "lan": ["--range", "10.41.0.0/16", "--topology", "switched"],
}

_numbers = count(1)


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return released.PREVIOUS.unpacked(tmp_path_factory.mktemp("previous"))


@pytest.fixture
def bare_lab(tmp_path: Path) -> Iterator[Lab]:
    """Two hosts and nothing that runs on them."""
    with Lab(tmp_path / "lab", hosts=2) as made:
        yield made


@dataclass
class Cluster:
    """Two hosts, two networks, and a container of each network on each host, which stay all the time."""

    lab: Lab
    containers: list[Container]
    kernel: list[set[str]]
    hosts: set[tuple[str, int, str]]

    @classmethod
    def begin(cls, lab: Lab) -> "Cluster":
        for name, options in RANGES.items():
            lab.overlayctl("network", "create", name, *options)
        lab.overlayctl("reservation", "create", "lan", "db")
        containers = [
            host.attach(f"{network}-{host.name}", network, runtimeConfig=runtime_config(network))
            for network in RANGES
            for host in lab.hosts
        ]
        lab.in_force(*containers)
        kernel = [kernel_of(each.host, each) for each in containers]
        return cls(lab, containers, kernel, identities(lab.overlayctl("host", "list", "--json")))

    def pairs(self) -> list[tuple[Container, Container]]:
        """Return the containers of each network, those of one and of the other host."""
        return [(self.containers[0], self.containers[1]), (self.containers[2], self.containers[3])]

    def assert_whole(self) -> None:
        """Assert that what runs is as it was, that containers come and go on every host, and that nothing is wrong."""
        for host in self.lab.hosts:
            eventually(lambda: status_of(host)["problems"] == [], f"{host.name} has no problem", SLOW)  # noqa: B023
        for was, each in zip(self.kernel, self.containers, strict=True):
            assert was - kernel_of(each.host, each) == set()
            checked = check(each)
            assert checked.status == 0, checked.stdout
            with serve(each):
                assert ask(self.lab.enter_underlay, str(each.host.address), PORTS[each.network], "tcp") is not None
        assert identities(self.lab.overlayctl("host", "list", "--json")) == self.hosts
        for network in RANGES:
            stay = [each for each in self.containers if each.network == network]
            come = [host.attach(f"late{next(_numbers)}", network) for host in self.lab.hosts]
            self.lab.in_force(*stay, *come)
            for host in self.lab.hosts:
                assert len(filters(host, network)) <= 1, "containers that stay are watched like those that come"
            for each in (*stay, *come):
                # The previous release gives an address out again that had another MAC before its agent's restart.
                each.run("ip", "neighbour", "flush", "dev", each.interface)
            silent = [
                f"{one.name} to {other.name}" for one in come for other in stay if one.ping(other.address) is None
            ]
            assert silent == []
            addresses = [each.address for each in (*stay, *come)]
            assert len(set(addresses)) == len(addresses)
            for each in come:
                assert each.host.detach(each).status == 0
                each.host.remove_sandbox(each.name)
            names = {each.name for each in stay}
            eventually(lambda: self.lab.published(network) == names, "the DELs are published")  # noqa: B023


def runtime_config(network: str) -> dict[str, object]:
    mapping = {"hostPort": PORTS[network], "containerPort": SERVED, "protocol": "tcp"}
    return {"portMappings": [mapping], "bandwidth": {"ingressRate": 10**9, "ingressBurst": 10**7}}


def filters(host: LabHost, network: str) -> set[str]:
    """Return how many instructions the filters of forged sources have at the containers of a network."""
    inside = ["nsenter", f"--net=/run/netns/ov-{network}", "--"]
    links = json.loads(host.run(*inside, "ip", "-j", "link"))
    shown = [
        host.run(*inside, "tc", "filter", "show", "dev", link["ifname"], "ingress")
        for link in links
        if link["ifname"].startswith("ve")
    ]
    return {"".join(re.findall(r"bytecode '(\d+),", each)) for each in shown}


def check(container: Container) -> Executed:
    """Ask by CHECK whether all is in the kernel that ADD made for a container that stays."""
    config = plugin_config(container.network, runtimeConfig=runtime_config(container.network))
    return container.host.cni(
        "CHECK",
        {**config, "prevResult": container.result},
        CONTAINERID=container.name,
        NETNS=container.sandbox,
        IFNAME=container.interface,
    )


def status_of(host: LabHost) -> dict[str, object]:
    status = host.agent_status()
    assert status is not None
    return status


def restart(host: LabHost, release: Release | None) -> None:
    """Stop a host's agent, exchange the files, and start that of another release."""
    host.stop_agent()
    host.install(release=release)
    host.start_agent(release=release)


def pinging(stack: ExitStack, pairs: Sequence[tuple[Container, Container]], directory: Path) -> list[Pinging]:
    return [
        stack.enter_context(Pinging(one, other.address, directory / f"{one.name}.ping", 0.01))
        for pair in pairs
        for one, other in (pair, pair[::-1])
    ]


@pytest.mark.timeout(300)  # five mixtures, one after the other
def test_an_upgrade_host_by_host_and_the_way_back(bare_lab: Lab, previous: Release, tmp_path: Path) -> None:
    lab = bare_lab
    first, second = lab.hosts
    for host in lab.hosts:
        host.install(release=previous)
    lab.start_controller(release=previous)
    for host in lab.hosts:
        host.start_agent(release=previous)
    cluster = Cluster.begin(lab)
    with ExitStack() as stack:
        pings = pinging(stack, cluster.pairs(), tmp_path)
        lab.stop_controller()
        lab.start_controller()
        cluster.assert_whole()
        for host in (first, second):
            restart(host, None)
            cluster.assert_whole()
        for host in (second, first):
            restart(host, previous)
        cluster.assert_whole()
        lab.stop_controller()
        lab.start_controller(release=previous)
        cluster.assert_whole()
        for each in pings:
            each.more(10)
    assert [each.lost for each in pings] == [set()] * len(pings)


def test_agents_of_today_work_with_controllers_of_the_previous_release(
    bare_lab: Lab, previous: Release, tmp_path: Path
) -> None:
    lab = bare_lab
    lab.start_controller(release=previous)
    for host in lab.hosts:
        host.start_agent()
    cluster = Cluster.begin(lab)
    with ExitStack() as stack:
        pings = pinging(stack, cluster.pairs(), tmp_path)
        for host in lab.hosts:
            restart(host, None)
        cluster.assert_whole()
        lab.stop_controller()
        lab.start_controller()
        cluster.assert_whole()
        for each in pings:
            each.more(10)
    assert [each.lost for each in pings] == [set()] * len(pings)


def test_a_controller_of_each_release_on_one_etcd(bare_lab: Lab, previous: Release, tmp_path: Path) -> None:
    lab = bare_lab
    with ExitStack() as stack:
        etcd = stack.enter_context(EtcdCluster(1, inside=Path(f"/proc/{lab.underlay.pid.number}/ns/net")))
        older, newer = lab.start_controllers(etcd.url, etcd.url)
        older.stop()
        older.start(previous)
        lab.hosts[0].start_agent()
        lab.hosts[1].install(release=previous)
        lab.hosts[1].start_agent(release=previous)
        cluster = Cluster.begin(lab)
        pings = pinging(stack, cluster.pairs(), tmp_path)
        made = [
            each.request("POST", "/v1/networks", {"name": f"by-{each.name}", "pools": [{"range": "10.50.0.0/16"}]})
            for each in (older, newer, older, newer)
        ]
        assert [each.status_code for each in made] == [201, 201, 409, 409]
        networks = json.loads(lab.overlayctl("network", "list", "--json"))
        assert len({each["vni"] for each in networks}) == len(networks) == 4
        for other, release in ((older, previous), (newer, None)):
            other.stop()
            lab.overlayctl("wait")
            cluster.assert_whole()
            other.start(release)
        for each in pings:
            each.more(10)
    assert [each.lost for each in pings] == [set()] * len(pings)
