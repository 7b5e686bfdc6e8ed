"""podman with its CNI backend: alone, with containers of containerd on the same network, with plugins of others."""

import json
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from tests.support.chains import Chain
from tests.support.containerd import Containerd
from tests.support.images import archive, root_filesystem
from tests.support.lab import Lab
from tests.support.podman import Podman
from tests.support.processes import eventually
from tests.support.talking import Server, ask


@pytest.fixture(scope="module")
def runtimes(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Podman, Containerd]]:
    """The first host has podman, the second containerd, and both have networks blue and green."""
    directory = tmp_path_factory.mktemp("image")
    root = root_filesystem(directory / "root")
    lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
    lab.overlayctl("network", "create", "green", "--range", "10.33.0.0/16")
    for host in lab.hosts:
        host.install("blue", "green")
    one, other = lab.hosts
    with Podman(one, root) as podman, Containerd(other, archive(root, directory / "image.tar")) as containerd:
        yield podman, containerd


@pytest.fixture
def podman(runtimes: tuple[Podman, Containerd]) -> Podman:
    return runtimes[0]


def test_containers_of_two_runtimes_on_two_hosts_reach_each_other(
    lab: Lab, runtimes: tuple[Podman, Containerd]
) -> None:
    here, there = (runtime.run("web", "blue") for runtime in runtimes)
    lab.in_force(here, there)
    assert here.ping(there.address) is not None
    assert there.ping(here.address) is not None


def test_an_address_a_mac_and_a_port_are_what_was_asked_for(lab: Lab, podman: Podman) -> None:
    wishes = ["--ip", "10.32.0.9", "--mac-address", "02:00:00:00:00:09", "--publish", "8080:80"]
    container = podman.run("named", "blue", *wishes)
    assert container.addresses == [ip_address("10.32.0.9")]
    assert container.result["interfaces"] == [{"name": "eth0", "mac": "02:00:00:00:00:09"}]
    with Server(container.enter, "10.32.0.9", 80):
        assert ask(lab.enter_underlay, str(podman.host.address), 8080) is not None
    podman.podman("rm", "--force", "named")
    again = podman.run("again", "blue", "--publish", "8080:80")
    with Server(again.enter, str(again.address), 80):
        assert ask(lab.enter_underlay, str(podman.host.address), 8080) is not None


def test_networks_come_and_go_while_a_container_runs(lab: Lab, podman: Podman) -> None:
    container = podman.run("several", "blue", "--publish", "8090:80")
    podman.podman("network", "connect", "green", "several")
    second = podman.found("several", "green", "eth1")
    beside = lab.hosts[1].attach("beside", "green")
    lab.in_force(container, second, beside)
    assert second.ping(beside.address) is not None
    with Server(container.enter, "0.0.0.0", 80):
        assert ask(lab.enter_underlay, str(podman.host.address), 8090) is not None
        podman.podman("network", "disconnect", "blue", "several")
        assert ask(lab.enter_underlay, str(podman.host.address), 8090) is not None, "by the network that is left"
    assert "eth0" not in container.run("ip", "-o", "link")
    assert second.ping(beside.address) is not None


def test_forced_removal_leaves_nothing(lab: Lab, podman: Podman) -> None:
    container = podman.run("doomed", "blue")
    lab.in_force(container)
    podman.podman("rm", "--force", "doomed")
    eventually(lambda: container.name not in lab.published("blue"), "its endpoint is gone")
    assert str(container.address) not in podman.host.run("ip", "-n", "ov-blue", "-j", "route")
    names = [each["Names"] for each in json.loads(podman.podman("ps", "--all", "--format", "json"))]
    assert ["doomed"] not in names


def test_plugins_of_others_work_before_and_behind_ours(lab: Lab, podman: Podman) -> None:
    host = podman.host
    lab.overlayctl("network", "create", "chained", "--range", "10.34.0.0/16", "--range", "fd00:34::/48")
    tuning = {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.proxy_arp": "1"}, "mtu": 1300}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    ours, firewall = {"type": "overlayd"}, {"type": "firewall"}
    chain = Chain(host, "chained", [{"type": "loopback"}, ours, tuning, firewall, portmap])
    chain.install()
    container = podman.run("chained", "chained", "--publish", "8070:80")
    assert "mtu 1300" in container.run("ip", "link", "show", "eth0")
    assert container.run("sysctl", "-n", "net.ipv4.conf.eth0.proxy_arp").strip() == "1"
    with Server(container.enter, str(container.address), 80):
        assert ask(lab.enter_underlay, str(host.address), 8070) is not None
    for plugin in (
        "loopback",
        "overlayd",
        "tuning",
        "firewall",
    ):  # portmap 1.1.1 looks for each family's rules in both tables
        checked = chain.check(plugin, container)
        assert (checked.status, checked.stdout) == (0, ""), plugin
    result = chain.kept(container)["result"]
    assert [each["name"] for each in result["interfaces"]] == ["lo", "eth0"]
    assert [each["interface"] for each in result["ips"]] == [0, 0, 1, 1]
    rules = host.run("iptables-save")
    assert f"-A CNI-FORWARD -s {container.address}/32 -j ACCEPT" in rules
    assert f"DNAT --to-destination {container.address}:80" in rules
    podman.podman("rm", "--force", "chained")
    assert str(container.address) not in host.run("iptables-save")
    eventually(lambda: not lab.published("chained"), "its endpoint is gone")
