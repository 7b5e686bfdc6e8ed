"""An upgrade from the previous release: controllers first, then host by host, with traffic running."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from overlayd.model.ids import MacAddress, is_own_mac
from tests.support.agents import released
from tests.support.agents.released import Release
from tests.support.lab.lab import Container, Lab, LabHost
from tests.support.lab.processes import eventually
from tests.support.packets.ping_stream import Pinging

BOTH = pytest.mark.parametrize("topology", ["routed", "switched"])


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The previous release."""
    return released.V010.unpacked(tmp_path_factory.mktemp("released"))


@pytest.fixture
def bare_lab(tmp_path: Path) -> Iterator[Lab]:
    """Two hosts and nothing that runs on them."""
    with Lab(tmp_path / "lab", hosts=2) as made:
        yield made


def pair(lab: Lab, topology: str) -> tuple[Container, Container]:
    lab.overlayctl("network", "create", "blue", "--range", "10.40.0.0/16", "--topology", topology)
    source, destination = (host.attach(f"web-{host.name}", "blue") for host in lab.hosts)
    lab.in_force(source, destination)
    return source, destination


def reach_each_other(*containers: Container) -> bool:
    return all(one.ping(other.address) is not None for one in containers for other in containers)


def kernel_of(host: LabHost, container: Container) -> set[str]:
    """Return what the agent made in the kernel for a network and one of its containers; a link has its ifindex.

    Of the bridge's own MACs it says only that they are there: the kernel made their entries, and the agent marks them
    as its own since.
    """
    shown = host.run("bridge", "-n", f"ov-{container.network}", "fdb", "show").splitlines()
    found = {
        line.split()[0] if is_own_mac(MacAddress(line.split()[0])) and " dst " not in line else line for line in shown
    }
    for look in ("-o link", "-o -4 address", "-4 route show table all", "neighbour show nud permanent"):
        for namespace in (f"ov-{container.network}", container.name):
            # What is written on a device is new, and changes nothing of it.
            lines = (
                line.partition("\\    alias ")[0]
                for line in host.run("ip", "-n", namespace, *look.split()).splitlines()
            )
            found |= {f"{namespace}: {line}" for line in lines}
    return found


@BOTH
def test_an_agent_of_the_previous_release_works_with_todays_controller(
    bare_lab: Lab, old: Release, tmp_path: Path, topology: str
) -> None:
    bare_lab.start_controller()
    ours, theirs = bare_lab.hosts
    ours.start_agent()
    theirs.start_agent(release=old)
    here, there = pair(bare_lab, topology)
    assert reach_each_other(here, there)

    with Pinging(there, here.address, tmp_path / "ping") as pinging:
        bare_lab.overlayctl("network", "add-range", "blue", "10.41.0.0/16")
        bare_lab.overlayctl("network", "add-range", "blue", "fd00:40::/48")
        bare_lab.overlayctl("reservation", "create", "blue", "db")
        (host,) = [
            each for each in json.loads(bare_lab.overlayctl("host", "list", "--json")) if each["name"] == "host1"
        ]
        wanted = {"host": host["id"], "family": 6}
        acquired = httpx.post(f"{bare_lab.api_url}/v1/networks/blue/blocks", json=wanted, trust_env=False)
        assert acquired.json()["cidr"].startswith("fd00:40:")
        bare_lab.overlayctl("wait")
        pinging.more(50)
    assert pinging.lost == set()

    bare_lab.stop_controller()
    bare_lab.start_controller()
    late = theirs.attach("late", "blue")
    bare_lab.in_force(here, there, late)
    assert reach_each_other(here, there, late)

    assert theirs.detach(there).status == 0
    eventually(lambda: bare_lab.published("blue") == {here.name, late.name}, "the DEL is published")


@BOTH
def test_an_upgrade_moves_no_packet_and_makes_nothing_anew(
    bare_lab: Lab, old: Release, tmp_path: Path, topology: str
) -> None:
    bare_lab.start_controller(release=old)
    for host in bare_lab.hosts:
        host.start_agent(release=old)
    containers = pair(bare_lab, topology)
    listed = bare_lab.overlayctl("host", "list", "--json")
    before = [kernel_of(each.host, each) for each in containers]
    with ExitStack() as stack:
        here, there = containers
        pings = [Pinging(here, there.address, tmp_path / "there"), Pinging(there, here.address, tmp_path / "here")]
        for pinging in pings:
            stack.enter_context(pinging)
        bare_lab.stop_controller()
        bare_lab.start_controller()
        bare_lab.overlayctl("wait")
        for host in bare_lab.hosts:
            host.stop_agent()
            host.start_agent()
        bare_lab.overlayctl("wait")
        for pinging in pings:
            pinging.more(50)
    assert [pinging.lost for pinging in pings] == [set(), set()]
    # What is new since is there beside.
    assert [was - kernel_of(each.host, each) for was, each in zip(before, containers, strict=True)] == [set(), set()]
    assert identities(bare_lab.overlayctl("host", "list", "--json")) == identities(listed)

    assert bare_lab.published("blue") == {container.name for container in containers}

    late = [host.attach("late", "blue") for host in bare_lab.hosts]
    bare_lab.in_force(*containers, *late)
    assert reach_each_other(*containers, *late)


def identities(listed: str) -> set[tuple[str, int, str]]:
    return {(host["id"], host["number"], host["address"]) for host in json.loads(listed)}
