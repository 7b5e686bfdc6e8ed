"""Bursts of ADDs that need blocks at the same time: all of what is attached finds an address."""

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import NewNetwork
from tests.integration.runtimes.test_cni_faults import add_sandboxes, execute
from tests.support.controllers.etcd import EtcdCluster
from tests.support.lab.lab import Executed, Lab, LabHost

EACH = 50
"""Containers of each host, of which a block takes fifteen."""

NETWORKS = 100
MEMBERS = 10
"""Containers of each host in each of many networks; a block takes thirteen or so, and the two hosts need one each."""

AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Wanted:
    """A container that is to be in a network."""

    host: LabHost
    network: str
    name: str

    def cni(self, command: str) -> Executed:
        return execute(self.host, command, self.network, self.name)


def together(command: str, containers: Sequence[Wanted], at_once: int) -> list[Executed]:
    with ThreadPoolExecutor(at_once) as threads:
        return list(threads.map(lambda each: each.cni(command), containers))


def failures(outcomes: Sequence[Executed]) -> list[Executed]:
    return [done for done in outcomes if done.status]


def address(done: Executed) -> str:
    return str(json.loads(done.stdout)["ips"][0]["address"].partition("/")[0])


def test_hosts_that_grow_at_once_find_an_address_for_each_container(lab: Lab, new_network: NewNetwork) -> None:
    network = new_network("--block-length", "28", cidr="10.98.7.0/24")
    wanted = [Wanted(host, network, f"{network}-{host.name}-{number}") for host in lab.hosts for number in range(EACH)]
    for host in lab.hosts:
        add_sandboxes(host, [each.name for each in wanted if each.host is host])
    added = together("ADD", wanted, len(wanted))
    assert failures(added) == []
    assert len({address(done) for done in added}) == len(wanted)
    assert failures(together("DEL", wanted, len(wanted))) == []


@contextmanager
def lab_on(store: str, directory: Path) -> Iterator[Lab]:
    """Run two hosts; on etcd with two controllers, which both give out blocks."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(directory, hosts=2))
        if store == "etcd":
            etcd = stack.enter_context(EtcdCluster(3, inside=Path(f"/proc/{lab.underlay.pid.number}/ns/net")))
            lab.start_controllers(etcd.url, etcd.url)
        else:
            lab.start_controller()
        for host in lab.hosts:
            host.start_agent()
        yield lab


@pytest.mark.thorough
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("store", ["embedded", "etcd"])
def test_two_thousand_containers_of_a_hundred_networks_are_attached_in_one_burst(tmp_path: Path, store: str) -> None:
    with lab_on(store, tmp_path / "lab") as lab:
        networks = [f"net{number}" for number in range(NETWORKS)]
        for number, network in enumerate(networks):
            pool = ("--range", f"10.{100 + number}.0.0/16", "--block-length", "28")
            lab.overlayctl("network", "create", network, *pool)
        wanted = [
            Wanted(host, network, f"{network}-{host.name}-{number}")
            for number in range(MEMBERS)
            for network in networks
            for host in lab.hosts
        ]
        for host in lab.hosts:
            add_sandboxes(host, [each.name for each in wanted if each.host is host])
        began = time.monotonic()
        added = together("ADD", wanted, AT_ONCE)
        attached = time.monotonic()
        assert failures(added) == []
        given = defaultdict[str, list[str]](list)
        for each, done in zip(wanted, added, strict=True):
            given[each.network].append(address(done))
        assert {len(set(addresses)) for addresses in given.values()} == {2 * MEMBERS}
        lab.overlayctl("wait", "--timeout", "300")
        for network, (here, there, *_) in given.items():
            host, other = lab.hosts
            for source, name, to in (
                (host, f"{network}-{host.name}-0", there),
                (other, f"{network}-{other.name}-0", here),
            ):
                ping = source.execute(["nsenter", f"--net=/run/netns/{name}", "ping", "-nqc1", "-W5", to])
                assert ping.returncode == 0, (network, to, ping.stdout)
        pinged = time.monotonic()
        assert failures(together("DEL", wanted, AT_ONCE)) == []
        took = f"ADD {attached - began:.1f} s, DEL {time.monotonic() - pinged:.1f} s"
        print(f"{store}: {len(wanted)} containers of {NETWORKS} networks, {AT_ONCE} at a time: {took}")  # noqa: T201 - shown by pytest -s
