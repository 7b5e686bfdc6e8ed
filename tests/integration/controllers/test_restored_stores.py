"""A store that is restored from an older backup, under running controllers and agents or without them.

Traffic goes on, all of it is read again, and nothing that a container has is given to another one.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.support.controllers.etcd import EtcdCluster
from tests.support.lab.lab import COMMANDS, CommandFailed, Container, Lab, LabHost, run
from tests.support.lab.processes import eventually
from tests.support.packets.ping_stream import Pinging

SLOW = 30.0
RECOVERY = ("--recovery-time", "3")
"""Seconds that hosts have to speak: one of them is away for longer."""

_numbers = count(1)


@dataclass
class Cluster:
    """Three hosts with containers, of which the backup knows only some."""

    lab: Lab
    blue: list[Container]
    later: list[Container]

    @property
    def containers(self) -> list[Container]:
        return [*self.blue, *self.later]

    def ask(self, path: str) -> dict[str, object]:
        answer = httpx.get(self.lab.api_url + path, trust_env=False, verify=self.lab.trust(), timeout=30)
        answer.raise_for_status()
        found: dict[str, object] = answer.json()
        return found

    def networks(self) -> dict[str, int]:
        """Return the VNI of every network that the controllers know."""
        return {each["name"]: each["vni"] for each in json.loads(self.lab.overlayctl("network", "list", "--json"))}

    def create(self, name: str, cidr: str, *options: str) -> None:
        self.lab.overlayctl("network", "create", name, "--range", cidr, *options)

    def is_recovered(self) -> bool:
        """Tell whether the controller has begun another lineage, and gives things out again.

        It then serves again from its start: a request that comes just as it closes its connections has no answer.
        """
        try:
            return "later" not in self.networks() and self.ask("/readyz")["awaited"] is None
        except (CommandFailed, httpx.TransportError):
            return False

    def add(self, host: LabHost, network: str) -> Container:
        return host.attach(f"new{next(_numbers)}", network)

    def assert_apart(self, containers: Sequence[Container]) -> None:
        """Assert that no address of a network belongs to two containers."""
        had = [(each.network, each.address) for each in (*self.containers, *containers)]
        assert len(set(had)) == len(had), had

    def begin(self) -> None:
        """Make what the backup will know."""
        self.create("blue", "10.40.0.0/16")
        self.blue += [host.attach(f"blue-{host.name}", "blue") for host in self.lab.hosts[:2]]
        self.lab.in_force(*self.blue)

    def go_on(self) -> None:
        """Make what the backup does not know: a network, and a block of a network that it does know."""
        self.create("later", "10.41.0.0/16")
        self.later += [host.attach(f"later-{host.name}", "later") for host in self.lab.hosts]
        self.blue.append(self.lab.hosts[2].attach("blue-late", "blue"))
        self.lab.in_force(*self.containers)


def status_of(host: LabHost) -> dict[str, object]:
    status = host.agent_status()
    assert status is not None
    return status


def revision_of(host: LabHost) -> int:
    revision = status_of(host)["revision"]
    assert isinstance(revision, int)
    return revision


def is_lost_here(host: LabHost) -> bool:
    """Tell whether a host is in sync, and knows that its containers' network is gone."""
    status = status_of(host)
    return bool(status["in_sync"]) and "later" in json.dumps(status["problems"])


def assert_that_nothing_is_given_twice(cluster: Cluster, known: int, vni: int) -> None:
    """Go through what a cluster does after its store went back, with the third host away until now."""
    lab = cluster.lab
    first, second, third = lab.hosts
    for host in (first, second):
        eventually(lambda: is_lost_here(host), f"{host.name} knows what is lost", SLOW)  # noqa: B023 - used at once
        with pytest.raises(CommandFailed, match="later"):
            cluster.add(host, "later")
    # The new course of events passes the revision that the third host knew of the other one.
    while True:
        name = f"n{next(_numbers)}"
        cluster.create(name, "10.99.0.0/16", "--uplink", "none")
        if int(str(cluster.ask("/healthz")["revision"])) > known:
            break
    assert vni not in cluster.networks().values()
    new = [cluster.add(host, "blue") for host in (first, second)]
    third.start_agent()
    eventually(lambda: is_lost_here(third), "the third host knows what is lost", SLOW)
    new.append(cluster.add(third, "blue"))
    cluster.assert_apart(new)
    lab.in_force(*cluster.blue, *new)
    assert cluster.blue[0].ping(cluster.blue[2].address) is not None
    assert new[2].ping(new[0].address) is not None
    # Created again, the network is the one of its containers: their addresses stay theirs, and they reach each other.
    cluster.create("later", "10.41.0.0/16")
    assert cluster.networks()["later"] == vni
    eventually(lambda: {each.name for each in cluster.later} <= lab.published("later"), "they are known again", SLOW)
    again = [cluster.add(host, "later") for host in lab.hosts]
    cluster.assert_apart([*new, *again])
    lab.in_force(*cluster.later, *again)
    assert cluster.later[0].ping(cluster.later[2].address) is not None
    assert again[0].ping(cluster.later[1].address) is not None
    for host in lab.hosts:
        eventually(lambda: status_of(host)["problems"] == [], f"{host.name} has no problem", SLOW)  # noqa: B023


@pytest.fixture
def on_etcd(tmp_path: Path) -> Iterator[tuple[Cluster, EtcdCluster]]:
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(tmp_path / "lab", hosts=3))
        etcd = stack.enter_context(EtcdCluster(1, inside=Path(f"/proc/{lab.underlay.pid.number}/ns/net")))
        lab.start_controllers(etcd.url, etcd.url, options=RECOVERY)
        for host in lab.hosts:
            host.start_agent()
        yield Cluster(lab, [], []), etcd


@pytest.mark.parametrize("controllers", ["that run", "that were stopped"])
def test_an_etcd_that_is_restored_under_controllers(
    on_etcd: tuple[Cluster, EtcdCluster], tmp_path: Path, controllers: str
) -> None:
    cluster, etcd = on_etcd
    lab = cluster.lab
    cluster.begin()
    etcd.save(tmp_path / "snapshot")
    cluster.go_on()
    vni, known = cluster.networks()["later"], revision_of(lab.hosts[2])
    lab.hosts[2].stop_agent()
    with Pinging(cluster.blue[0], cluster.blue[1].address, tmp_path / "ping") as pinging:
        if controllers == "that were stopped":
            for controller in lab.controllers:
                controller.stop()
        etcd.kill(0)
        etcd.restore(tmp_path / "snapshot")
        etcd.launch(0)
        etcd.await_health()
        if controllers == "that were stopped":
            for controller in lab.controllers:
                controller.start()
        eventually(cluster.is_recovered, "the controllers have begun another lineage", SLOW)
        for controller in lab.controllers:
            names = {each["name"] for each in controller.request("GET", "/v1/networks").json()["items"]}
            assert names == {"blue"}, controller.name
        assert_that_nothing_is_given_twice(cluster, known, vni)
        pinging.more(50)
    assert pinging.lost == set()


def controller_command(*arguments: str) -> str:
    return run([str(COMMANDS / "overlay-controller"), *arguments])


def test_a_backup_of_a_running_controller_restored_with_all_stopped(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab", hosts=3) as lab:
        store, saved = str(lab.directory / "store.db"), str(tmp_path / "saved")
        lab.start_controller(*RECOVERY)
        for host in lab.hosts:
            host.start_agent()
        cluster = Cluster(lab, [], [])
        cluster.begin()
        controller_command("backup", saved, "--store", store)
        cluster.go_on()
        vni, known = cluster.networks()["later"], revision_of(lab.hosts[2])
        with Pinging(cluster.blue[0], cluster.blue[1].address, tmp_path / "ping") as pinging:
            for host in lab.hosts:
                host.stop_agent()
            with pytest.raises(CommandFailed, match="in use by a controller"):
                controller_command("restore", saved, "--store", store, "--replace")
            lab.stop_controller()
            with pytest.raises(CommandFailed, match="--replace"):
                controller_command("restore", saved, "--store", store)
            controller_command("restore", saved, "--store", store, "--replace")
            lab.start_controller(*RECOVERY)
            for host in lab.hosts[:2]:
                host.start_agent()
            eventually(cluster.is_recovered, "things are given out again", SLOW)
            assert_that_nothing_is_given_twice(cluster, known, vni)
            pinging.more(50)
        assert pinging.lost == set()
