"""Networks whose range holds what a host needs: it stays reachable, says so, and the network can be deleted."""

import json
from collections.abc import Iterator

import pytest

from tests.support.lab.lab import CONTROLLER, CommandFailed, Lab, LabHost
from tests.support.lab.processes import eventually

ELSEWHERE = "10.98.0"
"""Where the second host is: it reaches the controller and the first host by its default route."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two hosts in different subnets, whose agents hardly ever look by themselves."""
    with Lab(tmp_path_factory.mktemp("lab"), hosts=2) as made:
        made.underlay_run("ip", "address", "add", f"{ELSEWHERE}.1/24", "dev", "under0")
        made.underlay_run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        here, there = made.hosts
        here.run("ip", "route", "add", "default", "via", CONTROLLER)
        move(there)
        made.start_controller()
        for host in made.hosts:
            host.start_agent("--resync", "3600")
        yield made


def move(host: LabHost) -> None:
    host.run("ip", "-4", "address", "flush", "dev", "eth0")
    host.run("ip", "address", "add", f"{ELSEWHERE}.12/24", "dev", "eth0")
    host.run("ip", "route", "add", "default", "via", f"{ELSEWHERE}.1")


def reaches_controller(host: LabHost) -> bool:
    return host.execute(["ping", "-n", "-c1", "-W2", CONTROLLER]).returncode == 0


def claims(host: LabHost) -> list[str]:
    """Return the routes of the host into networks, and the addresses that it has there."""
    routes = json.loads(host.run("ip", "-j", "route", "show", "proto", "118"))
    links = [link for link in json.loads(host.run("ip", "-j", "address")) if link["ifname"].startswith("ov")]
    own = [each["local"] for link in links for each in link["addr_info"] if each["scope"] == "global"]
    return [route["dst"] for route in routes if not route["dst"].startswith("241.")] + own


def problems(host: LabHost) -> list[str]:
    status = host.agent_status()
    assert status is not None
    found = status["problems"]
    assert isinstance(found, list)
    return [problem["message"] for problem in found if "isolated on this host" in problem["message"]]


def test_a_range_over_the_controllers_and_the_other_hosts_cuts_nobody_off(lab: Lab) -> None:
    there = lab.hosts[1]
    with pytest.raises(CommandFailed, match=r"members of network worse.*10\.99\.0\.1, this controller's address"):
        lab.overlayctl("network", "create", "worse", "--range", "10.99.0.0/16", "--uplink", "host")
    lab.overlayctl("network", "create", "worse", "--range", "10.99.0.0/16")
    container = there.attach("c1", "worse")
    assert claims(there) == []
    assert reaches_controller(there)
    (problem,) = problems(there)
    assert problem.startswith("isolated on this host, as its range 10.99.0.0/16 holds 10.99.0.")
    eventually(lambda: container.name in lab.published("worse"), "the controllers know the container")
    with pytest.raises(CommandFailed, match=r"host2: network worse: isolated on this host"):
        lab.overlayctl("wait", "--network", "worse", "--timeout", "1")

    cache = there.directory / "written/var/lib/overlayd/cluster.cache"
    eventually(lambda: b"worse" in cache.read_bytes(), "the host has the network in its cache")
    lab.stop_controller()
    there.reboot()
    move(there)
    there.start_agent("--resync", "3600", wait=False)
    eventually(lambda: problems(there), "the host with the cluster of its cache says what it found")
    assert claims(there) == []
    assert reaches_controller(there)
    lab.start_controller()
    eventually(lambda: (there.agent_status() or {}).get("in_sync"), "the host is in sync with the controller")

    there.detach(container)
    lab.delete_network("worse")
    eventually(lambda: "worse" not in lab.overlayctl("network", "list"), "the network is gone")


def test_an_address_that_comes_later_ends_the_hosts_way_into_the_range(lab: Lab) -> None:
    lab.overlayctl("network", "create", "later", "--range", "10.77.0.0/16", "--uplink", "host")
    containers = [host.attach(f"later-{host.name}", "later") for host in lab.hosts]
    lab.in_force(*containers)
    here, there = lab.hosts
    assert all(len(claims(host)) == 2 for host in lab.hosts)
    here.run("ip", "address", "add", "10.77.5.5/32", "dev", "eth0")
    eventually(lambda: not claims(here), "the host is no longer a member")
    assert problems(here) == [
        "isolated on this host, as its range 10.77.0.0/16 holds 10.77.5.5, an address of this host"
    ]
    assert len(claims(there)) == 2
    here.run("ip", "address", "del", "10.77.5.5/32", "dev", "eth0")
    eventually(lambda: len(claims(here)) == 2, "it is one again")
    there.run("ip", "route", "replace", "default", "via", "10.77.9.9", "dev", "eth0", "onlink")
    eventually(lambda: not claims(there), "the host with a gateway in the range is no longer a member")
    there.run("ip", "route", "replace", "default", "via", f"{ELSEWHERE}.1")
    eventually(lambda: len(claims(there)) == 2, "it is one again")
    assert containers[0].ping(containers[1].address) is not None


def test_a_tunnel_end_on_the_loopback_has_the_mtu_of_the_way_to_the_other_hosts(lab: Lab) -> None:
    lab.overlayctl("network", "create", "lo", "--range", "10.79.0.0/16")
    late = lab.add_host()
    vtep = "10.97.0.1"
    late.run("ip", "address", "add", f"{vtep}/32", "dev", "lo")
    late.run("ip", "route", "add", "default", "via", CONTROLLER)
    lab.underlay_run("ip", "route", "add", vtep, "via", str(late.address))
    late.start_agent("--vtep", vtep, "--resync", "3600")
    containers = [host.attach(f"lo-{host.name}", "lo") for host in (lab.hosts[0], late)]
    lab.in_force(*containers)
    assert (late.agent_status() or {})["mtu"] == 1450
    assert containers[0].ping(containers[1].address, size=1450) is not None


def test_the_tunnel_end_of_a_host_that_joins_later_is_kept_out_of_ranges_on_all_hosts(lab: Lab) -> None:
    lab.overlayctl("network", "create", "soon", "--range", "10.78.0.0/24", "--uplink", "host")
    containers = [host.attach(f"soon-{host.name}", "soon") for host in lab.hosts]
    lab.in_force(*containers)
    assert all("10.78.0.0/24" in claims(host) for host in lab.hosts)
    late = lab.add_host()
    late.run("ip", "address", "add", "10.78.0.30/32", "dev", "eth0")
    late.start_agent("--vtep", "10.78.0.30")
    for host in lab.hosts[:2]:
        eventually(lambda: "10.78.0.0/24" not in claims(host), "the host is no longer a member")  # noqa: B023 - now
        assert "isolated on this host, as its range 10.78.0.0/24 holds 10.78.0.30, the VTEP of host host4" in problems(
            host
        )
    assert containers[0].ping(containers[1].address) is not None
    for container in containers:
        container.host.detach(container)
    lab.delete_network("soon")
    eventually(lambda: "soon" not in lab.overlayctl("network", "list"), "the network is gone")
