"""On a segment a MAC has one owner: no container gets that of a gateway or a host, and the first claim stands."""

import json
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address

import pytest

from tests.support.lab.lab import CONTROLLER, Container, Lab, LabHost, plugin_config
from tests.support.lab.processes import eventually

MAC = "02:00:00:00:00:50"
GATEWAY = "02:6f:76:00:00:00"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), hosts=2) as made:
        made.start_controller()
        for host in made.hosts:
            host.start_agent("--resync", "3600")  # what is repaired was noticed
        made.overlayctl("network", "create", "red", "--range", "10.33.0.0/16", "--topology", "switched")
        yield made


def mac(container: Container) -> str:
    (link,) = json.loads(container.run("ip", "-j", "link", "show", "dev", container.interface))
    return str(link["address"])


def problems(lab: Lab, host: LabHost) -> list[str]:
    (found,) = (each for each in json.loads(lab.overlayctl("host", "list", "--json")) if each["name"] == host.name)
    return [f"{each['object']}: {each['message']}" for each in found["problems"]]


def refused(host: LabHost, name: str, runtime: Mapping[str, object], arguments: str = "") -> str:
    """Let an ADD fail; return what it says."""
    config = {**plugin_config("red"), "runtimeConfig": dict(runtime)}
    done = host.cni("ADD", config, CONTAINERID=name, NETNS=host.add_sandbox(name), IFNAME="eth0", ARGS=arguments)
    host.remove_sandbox(name)
    assert done.status == 1, done.stdout
    return f"{done.json['msg']} {done.json.get('details')}"


def leaves(container: Container) -> bool:
    return container.ping(IPv4Address(CONTROLLER), wait=0.3) is not None


def own_entries(host: LabHost) -> set[str]:
    """Return the MACs of frames that the bridge of the segment takes up to the host, and that the agent keeps."""
    shown = host.run("bridge", "-n", "ov-red", "fdb", "show", "br", "br0").splitlines()
    return {line.split()[0] for line in shown if " dev br0 " in line and "extern_learn" in line}


def test_a_mac_of_overlayds_own_devices_is_refused_at_every_door(lab: Lab) -> None:
    host = lab.hosts[0]
    for number, own in enumerate((GATEWAY, "02:6f:76:00:00:02", "02:6F:76:01:00:00")):
        errors = (
            refused(host, f"runtime{number}", {"mac": own}),
            refused(host, f"arguments{number}", {}, f"MAC={own}"),
            refused(host, f"annotated{number}", {"io.kubernetes.cri.pod-annotations": {"overlayd/mac": own}}),
        )
        assert all("is for the devices of overlayd itself" in error for error in errors), errors


def test_the_bridges_entry_for_the_gateway_is_repaired(lab: Lab) -> None:
    here, there = (host.attach(f"gateway-{host.name}", "red") for host in lab.hosts)
    lab.in_force(here, there)
    host = here.host
    eventually(lambda: GATEWAY in own_entries(host), "the entry is there")
    assert leaves(here)
    host.run("bridge", "-n", "ov-red", "fdb", "del", GATEWAY, "dev", "br0", "self")
    eventually(lambda: GATEWAY in own_entries(host), "the entry is there again")
    eventually(lambda: leaves(here), "containers reach the world outside")
    (address,) = (
        each["local"]
        for device in json.loads(host.run("ip", "-j", "-4", "address", "show"))
        if device["ifname"].startswith("ov")
        for each in device["addr_info"]
        if each["scope"] == "global"
    )
    for container in (here, there):
        assert container.ping(IPv4Address(address)) is not None, "the host is reached"
        container.host.detach(container)


def test_a_mac_in_use_on_another_host_is_refused(lab: Lab) -> None:
    here, there = lab.hosts
    first = here.attach("first", "red", runtimeConfig={"mac": MAC})
    witness = there.attach("witness", "red")
    lab.in_force(first, witness)
    assert f"{MAC} is the MAC of container first on host host1" in refused(there, "second", {"mac": MAC})
    assert witness.ping(first.address) is not None
    assert here.detach(first).status == 0
    eventually(lambda: "first" not in lab.published("red"), "the controllers know that it is gone")
    moved = there.attach("moved", "red", runtimeConfig={"mac": MAC})
    assert mac(moved) == MAC
    for container in (witness, moved):
        there.detach(container)


def test_of_two_that_get_one_mac_without_controllers_the_first_published_stands(lab: Lab) -> None:
    here, there = lab.hosts
    members = [host.attach(f"member-{host.name}", "red") for host in lab.hosts]
    lab.in_force(*members)
    lab.stop_controller()
    # Neither host hears of the other one's container.
    doubles = [host.attach(f"double-{host.name}", "red", runtimeConfig={"mac": MAC}) for host in lab.hosts]
    lab.start_controller()
    eventually(
        lambda: sorted(map(len, (problems(lab, here), problems(lab, there)))) == [0, 1], "one host has a problem"
    )
    lost = next(double for double in doubles if problems(lab, double.host))
    kept = next(double for double in doubles if double is not lost)
    (problem,) = problems(lab, lost.host)
    assert problem == (
        f"endpoint red/{lost.name}/eth0: the controllers refuse it: {MAC} is the MAC of container {kept.name} on host"
        f" {host_id(lab, kept.host)} in network red"
    )
    assert problem in lab.overlayctl("host", "show", lost.host.name)
    status = lost.host.agent_status()
    assert status is not None
    assert problem in [f"{each['object']}: {each['message']}" for each in status["problems"]]  # type: ignore[attr-defined]
    for member in members:
        eventually(lambda: member.ping(kept.address, wait=0.3) is not None, "the first one is reached")  # noqa: B023 - used at once
    assert kept.echoes >= len(members)
    assert lost.echoes == 0
    assert lost.host.detach(lost).status == 0
    eventually(lambda: not problems(lab, lost.host), "the problem is over")


def host_id(lab: Lab, host: LabHost) -> str:
    (found,) = (each for each in json.loads(lab.overlayctl("host", "list", "--json")) if each["name"] == host.name)
    return str(found["id"])
