"""From machines with the package to a cluster, by `overlay-controller init` and `overlayd join`."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.controllers.etcd import EtcdCluster
from tests.support.lab.lab import Lab
from tests.support.lab.processes import eventually
from tests.support.lab.service_manager import ServiceManager

AGENT, CONTROLLER = "overlayd.service", "overlay-controller.service"
SETTINGS = "/etc/overlayd/controller.toml"


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[ServiceManager]]:
    with Lab(tmp_path / "lab", hosts=3, secure=True) as lab, ExitStack() as services:
        yield [services.enter_context(ServiceManager(lab, host)) for host in lab.hosts]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[tuple[Lab, ServiceManager]]:
    with Lab(tmp_path / "lab", hosts=1, secure=True) as lab, ServiceManager(lab, lab.hosts[0]) as machine:
        yield lab, machine


def test_three_hosts_become_a_cluster_in_four_commands(machines: list[ServiceManager]) -> None:
    first, *_ = machines
    hosts = [machine.host for machine in machines]
    url = f"https://{hosts[0].address}:7471"
    for host in hosts:
        host.run("rm", "/opt/cni/bin/overlayd")

    printed = first.type(f"sudo overlay-controller init --listen {hosts[0].address}")
    assert printed.startswith("echo 'ovj_")
    assert printed.endswith(f" | sudo overlayd join {url}\n")
    assert len(printed.splitlines()) == 1
    for machine in machines:
        said = machine.type(printed)
        assert "joined as host" in said
        assert "in sync with a controller" in said
        assert machine.enabled == {AGENT} | ({CONTROLLER} if machine is first else set())

    listed = json.loads(first.type("overlayctl host list --json"))
    assert [host["connected"] for host in listed] == [True] * 3
    first.type("overlayctl network create blue --range 10.32.0.0/16")
    here, there = (host.attach(f"c-{host.name}", "blue") for host in hosts[1:])
    first.type("overlayctl wait --network blue")
    assert here.ping(there.address) is not None

    # Again: nothing changes, but that there is a new token.
    before = first.type(f"cat {SETTINGS}")
    again = first.type("sudo overlay-controller init --hosts 2 --ttl 10m")
    assert again.split("'")[1] != printed.split("'")[1]
    assert first.type(f"cat {SETTINGS}") == before
    assert first.starts.count(CONTROLLER) == 1
    tokens = json.loads(first.type("overlayctl token list --json"))
    assert [token["hosts"] for token in tokens if token["kind"] == "join"] == [97, 2]

    # An attempt is repeated, though its token has ended.
    first.type(f"overlayctl token revoke {printed.split('_')[1]}")
    assert "has joined already" in machines[2].type(printed)

    # A host joins again: its credential is good, and its new options are written to its settings.
    answer = machines[1].type(
        f"echo '{again.split(chr(39))[1]}' | overlayd join {url} --name rack-7 --timeout 20 --json"
    )
    joined = json.loads(answer)
    assert joined["host"] in {host["id"] for host in listed}
    assert (joined["settings"], joined["status"]["in_sync"]) == ("/etc/overlayd/agent.toml", True)
    assert machines[1].type("cat /etc/overlayd/agent.toml") == 'name = "rack-7"\n'
    assert "rack-7" in first.type("overlayctl host list --json")
    assert here.ping(there.address) is not None


def test_a_mistyped_store_leaves_the_machine_as_it_was(alone: tuple[Lab, ServiceManager]) -> None:
    lab, machine = alone
    make = f"overlay-controller init --listen {lab.hosts[0].address}"

    with pytest.raises(AssertionError, match=r"etcd://127\.0\.0\.1:1 cannot be used, and nothing was changed: "):
        machine.type(f"{make} --store etcd://127.0.0.1:1")
    assert (machine.starts, machine.enabled) == ([], set())
    with pytest.raises(AssertionError, match=r"`systemctl restart overlay-controller\.service` failed"):
        machine.type(f"{make} --store /proc/nowhere.db")
    assert (machine.starts, machine.enabled) == ([CONTROLLER], set())
    machine.type(f"test ! -e {SETTINGS}")

    assert machine.type(make).startswith("echo 'ovj_")
    machine.type(f"echo 'history-count = -1' >> {SETTINGS}")
    before = machine.type(f"cat {SETTINGS}")
    with pytest.raises(AssertionError, match=r"`systemctl restart overlay-controller\.service` failed"):
        machine.type(f"{make}:7473")
    assert machine.type(f"cat {SETTINGS}") == before
    assert machine.starts == [CONTROLLER] * 4, "once more with the settings that were"
    assert machine.enabled == {CONTROLLER}
    machine.type(f"sed -i '/history-count/d' {SETTINGS}")
    assert machine.type(make).startswith("echo 'ovj_")

    # With another port root is logged in there.
    made = json.loads(machine.type(f"{make}:7473 --json"))
    assert (made["settings"], made["changed"]) == (SETTINGS, True)
    assert made["join"]["url"] == f"https://{lab.hosts[0].address}:7473"
    assert made["join"]["token"].startswith("ovj_")
    machine.type("overlayctl host list")


@pytest.mark.thorough
def test_a_second_controller_of_an_etcd_is_made_the_same_way(alone: tuple[Lab, ServiceManager], tmp_path: Path) -> None:
    """The second is another one than the first by its file, its port and who is logged in: all on one machine."""
    lab, machine = alone
    host = lab.hosts[0]
    with EtcdCluster(1, inside=Path(f"/proc/{host.pid}/ns/net")) as etcd:
        first = machine.type(f"overlay-controller init --listen {host.address} --store {etcd.url}")
        machine.type("mv /var/lib/overlay-controller/admin-token /run/first-token")
        settings = "--no-start --config /run/second.toml"
        make = f"HOME=/run/second overlay-controller init {settings} --listen {host.address}:7472 --store {etcd.url}"
        assert machine.type(make) == "", "no controller answers there yet"
        lab.start("overlay-controller", ["run", "--config", "/run/second.toml"], tmp_path / "second.log", host.place)
        eventually(lambda: "7472" in host.run("ss", "-ltn"), "the second controller listens")
        second = machine.type(make)
        assert second.endswith(f"https://{host.address}:7472\n")
        fingerprints = {line.split("'")[1].rpartition("_")[2] for line in (first, second)}
        assert len(fingerprints) == 1, "both have the authority of the store"
        assert "in sync" in machine.type(second)
