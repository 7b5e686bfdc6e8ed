"""Reserved addresses: a container that claims one gets it on any host, and all hosts reach it there at once."""

import json
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from overlayd.model.address import IpAddress
from tests.integration.conftest import SELDOM
from tests.support.lab.lab import Container, Lab, LabHost, plugin_config
from tests.support.lab.processes import eventually
from tests.support.packets.ping_stream import Pinging

BOTH = pytest.mark.parametrize("topology", ["routed", "switched"])
GAP_MAX = 1.0
"""Seconds for which an address may be out of reach when it moves."""

_numbers = count(1)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three hosts: two between which an address moves, and one that looks on."""
    with Lab(tmp_path_factory.mktemp("lab"), hosts=3) as made:
        made.start_controller()
        for host in made.hosts:
            host.start_agent(*SELDOM)
        yield made


def new_network(lab: Lab, topology: str, *options: str) -> str:
    """Make a network with IPv4 and IPv6, and a reservation `db` in it; return its name."""
    number = next(_numbers)
    ranges = ("--range", f"10.{150 + number}.0.0/16", "--range", f"fd00:{150 + number}::/48")
    lab.overlayctl("network", "create", f"move{number}", "--topology", topology, *ranges)
    lab.overlayctl("reservation", "create", f"move{number}", "db", *options)
    return f"move{number}"


def reserved(lab: Lab, network: str) -> dict[str, object]:
    found = json.loads(lab.overlayctl("reservation", "show", network, "db", "--json"))
    assert isinstance(found, dict)
    return found


def claim(host: LabHost, network: str, name: str, *ports: dict[str, object]) -> Container:
    wishes = {"portMappings": list(ports)}
    return host.attach(f"{network}-{name}", network, arguments="RESERVATION=db", runtimeConfig=wishes)


def reaches(source: Container, *addresses: IpAddress) -> None:
    for address in addresses:
        eventually(lambda: source.ping(address, wait=0.3) is not None, f"{source.name} reaches {address}")  # noqa: B023 - used at once


@BOTH
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("first", ["stays", "goes"])
def test_a_reservation_that_moves_is_reached_again_at_once(
    lab: Lab, tmp_path: Path, topology: str, family: int, first: str
) -> None:
    network = new_network(lab, topology)
    here, there, aside = lab.hosts
    client, old = aside.attach(f"{network}-client", network), claim(here, network, "old")
    member = there.attach(f"{network}-member", network)
    lab.in_force(client, old, member)
    address = next(each for each in old.addresses if each.version == family)
    there.add_sandbox(f"{network}-new")
    with Pinging(client, address, tmp_path / "ping.log") as pinging:
        if first == "goes":
            assert here.detach(old).status == 0
        asked = time.time()
        new = claim(there, network, "new")
        # Some of the next answers are still those of the former holder.
        eventually(lambda: new.echoes >= 200, "the new holder answers")
        pinging.more(1)
    assert new.addresses == old.addresses
    gap = pinging.gap(since=asked)
    print(f"{topology} IPv{family}, the first one {first}: {gap * 1000:.0f} ms without an answer")  # noqa: T201 - shown by pytest -s
    assert gap < GAP_MAX


@BOTH
def test_the_one_that_lost_its_address_takes_nothing_with_it(lab: Lab, topology: str) -> None:
    network = new_network(lab, topology)
    here, there, aside = lab.hosts
    client = aside.attach(f"{network}-client", network)
    old = claim(here, network, "old", {"hostPort": 18080, "containerPort": 80, "protocol": "tcp"})
    neighbour = here.attach(f"{network}-neighbour", network)
    lab.in_force(client, old, neighbour)
    assert "18080" in here.run("nft", "list", "table", "inet", "overlayd")
    new = claim(there, network, "new")
    reaches(client, *new.addresses)
    reaches(neighbour, *new.addresses)
    assert here.cni("CHECK", plugin_config(network, prevResult=old.result), **variables(old)).status == 1
    eventually(lambda: f"{old.name} on" not in problems(here) and old.name in problems(here), "the loss is reported")
    assert "18080" not in here.run("nft", "list", "table", "inet", "overlayd")
    later = here.attach(f"{network}-later", network)
    eventually(lambda: later.name in lab.published(network), "whatever else this host has is published")
    assert here.detach(old).status == 0
    eventually(lambda: old.name not in problems(here), "it is over")
    for source in (client, neighbour, later):
        reaches(source, *new.addresses)
    assert reserved(lab, network)["holder"] == {
        "host": host_id(lab, there),
        "container_id": new.name,
        "interface": "eth0",
    }


@BOTH
def test_one_that_keeps_another_address_speaks_with_that_one_only(lab: Lab, topology: str) -> None:
    network = new_network(lab, topology, "--family", "4")
    here, there, _ = lab.hosts
    old, neighbour = claim(here, network, "old"), here.attach(f"{network}-neighbour", network)
    lab.in_force(old, neighbour)
    lost, kept = sorted(old.addresses, key=lambda each: each.version)
    theirs = next(each for each in neighbour.addresses if each.version == 4)
    speaking = ["nsenter", f"--net={old.sandbox}", "ping", "-nc3", "-i0.2", "-W1", "-I", str(lost), str(theirs)]
    eventually(lambda: here.execute(speaking).returncode == 0, "it speaks with the address while it has it")
    new = claim(there, network, "new")
    reaches(neighbour, lost, kept)
    heard = neighbour.echoes
    assert here.execute(speaking).returncode == 1
    assert neighbour.echoes == heard, "nothing that claims to come from the address that was lost arrives"
    reaches(old, *(each for each in neighbour.addresses if each.version == 6))
    assert there.detach(new).status == 0
    again = there.attach(f"{network}-again", network)
    reaches(again, kept)


def variables(container: Container) -> dict[str, str]:
    return {"CONTAINERID": container.name, "NETNS": container.sandbox, "IFNAME": container.interface}


def problems(host: LabHost) -> str:
    status = host.agent_status()
    assert status is not None
    return json.dumps(status["problems"])


def host_id(lab: Lab, host: LabHost) -> str:
    known = json.loads(lab.overlayctl("host", "list", "--json"))
    return next(str(each["id"]) for each in known if each["name"] == host.name)


@BOTH
def test_a_reservation_moves_between_containers_of_one_host(lab: Lab, topology: str) -> None:
    network = new_network(lab, topology)
    here, there, _ = lab.hosts
    client, beside = (host.attach(f"{network}-client-{host.name}", network) for host in (there, here))
    old = claim(here, network, "old")
    lab.in_force(client, beside, old)
    for source in (client, beside):
        reaches(source, *old.addresses)
    new = claim(here, network, "new")
    before = old.echoes
    for source in (client, beside):
        reaches(source, *new.addresses)
    assert old.echoes == before
    assert new.echoes >= 4


@BOTH
def test_a_reservation_brings_its_mac_and_an_address_that_is_asked_for_is_claimed(lab: Lab, topology: str) -> None:
    network = new_network(lab, topology, "--mac", "02:00:00:00:00:50")
    wanted = reserved(lab, network)["addresses"]
    assert isinstance(wanted, list)
    here, there, aside = lab.hosts
    client = aside.attach(f"{network}-client", network)
    old = here.attach(f"{network}-old", network, arguments=f"IP={wanted[0]}")
    assert [str(address) for address in old.addresses] == wanted
    lab.in_force(client, old)
    reaches(client, *old.addresses)
    new = there.attach(f"{network}-new", network, runtimeConfig={"ips": wanted})
    assert [mac(each) for each in (old, new)] == ["02:00:00:00:00:50"] * 2
    reaches(client, *new.addresses)


def mac(container: Container) -> str:
    (link,) = json.loads(container.run("ip", "-j", "link", "show", "dev", container.interface))
    return str(link["address"])


def test_a_reservation_is_free_again_after_a_deletion_and_after_an_attachment_that_failed(lab: Lab) -> None:
    network = new_network(lab, "routed")
    here = lab.hosts[0]
    first = claim(here, network, "first")
    assert reserved(lab, network)["holder"]
    assert here.detach(first).status == 0
    eventually(lambda: reserved(lab, network)["holder"] is None, "the reservation is released")
    sandbox = here.add_sandbox(f"{network}-second")
    here.run("ip", "-n", f"{network}-second", "link", "add", "eth0", "type", "bridge")
    second = {"CONTAINERID": f"{network}-second", "NETNS": sandbox, "IFNAME": "eth0", "ARGS": "RESERVATION=db"}
    assert here.cni("ADD", plugin_config(network), **second).status == 1
    eventually(lambda: reserved(lab, network)["holder"] is None, "what was claimed for nothing is released")
    again = claim(here, network, "first")
    lab.in_force(again)
    assert here.detach(again).status == 0
    once_more = claim(here, network, "first")
    lab.in_force(once_more)
    assert reserved(lab, network)["holder"], "the deletion before did not release it"


def test_what_cannot_be_claimed_is_refused_with_the_reason(lab: Lab) -> None:
    network = new_network(lab, "routed")
    here = lab.hosts[0]
    sandbox = here.add_sandbox(f"{network}-c")

    def refused(arguments: str = "", **config: object) -> str:
        names = {"CONTAINERID": f"{network}-c", "NETNS": sandbox, "IFNAME": "eth0", "ARGS": arguments}
        done = here.cni("ADD", plugin_config(network, "1.0.0", **config), **names)
        assert done.status == 1
        return str(done.json["msg"])

    assert f"network {network} has no reservation web" in refused(arguments="RESERVATION=web")
    ours, theirs = {"overlayd": {"reservation": "db"}}, {"ips": ["10.1.2.3"]}
    assert "10.1.2.3 is not 10." in refused(args=ours, runtimeConfig=theirs)
    lab.stop_controller()
    # Whatever it is first lacking for: the claim, or the news of what this host had before.
    assert "no controller" in refused(arguments="RESERVATION=db")
    lab.start_controller()
    for host in lab.hosts:
        eventually(lambda: (host.agent_status() or {})["in_sync"], f"{host.name} is in sync again")  # noqa: B023 - used at once
