"""Real container runtimes on two hosts: containerd by `ctr` and by the interface of Kubernetes, and podman."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest

from tests.support.lab.lab import Lab
from tests.support.lab.processes import eventually
from tests.support.packets.conversation import Server, ask
from tests.support.runtimes import workloads
from tests.support.runtimes.chains import Chain
from tests.support.runtimes.containerd import Containerd
from tests.support.runtimes.cri import Kubelet
from tests.support.runtimes.cri_pb2 import PortMapping
from tests.support.runtimes.images import archive, root_filesystem
from tests.support.runtimes.podman import Podman

pytestmark = pytest.mark.timeout(600)  # the first test waits for a root of its release, and for the mirror


@dataclass(frozen=True, slots=True)
class Runtimes:
    """Both hosts have containerd; the first one has a kubelet and podman, too."""

    containerds: tuple[Containerd, Containerd]
    kubelet: Kubelet
    podman: Podman


@pytest.fixture(scope="module")
def runtimes(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtimes]:
    """Both hosts have conflists of networks blue and green, put in place while containerd runs."""
    directory = tmp_path_factory.mktemp("image")
    root = root_filesystem(directory / "root")
    image = archive(root, directory / "image.tar")
    lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16", "--range", "fd00:32::/48")
    lab.overlayctl("network", "create", "green", "--range", "10.33.0.0/16")
    with ExitStack() as running:
        first, second = (running.enter_context(Containerd(host, image)) for host in lab.hosts)
        for host in lab.hosts:
            host.install("blue", "green")
        kubelet = running.enter_context(Kubelet(first.endpoint, first.group.name))
        eventually(lambda: kubelet.has_network, "containerd has seen a conflist")
        yield Runtimes((first, second), kubelet, running.enter_context(Podman(first.host, root)))


@pytest.fixture
def kubelet(runtimes: Runtimes) -> Kubelet:
    return runtimes.kubelet


@pytest.fixture
def podman(runtimes: Runtimes) -> Podman:
    return runtimes.podman


def test_containers_of_all_runtimes_reach_each_other_across_hosts(lab: Lab, runtimes: Runtimes) -> None:
    first, second = runtimes.containerds
    sandbox = runtimes.kubelet.run("front")
    pod = workloads.found(first.host, sandbox, "blue", runtimes.kubelet.namespace(sandbox))
    there = second.run("back", "blue")
    here = [first.run("front", "blue"), runtimes.podman.run("front", "blue"), pod]
    lab.in_force(there, *here)
    for container in here:
        for mine, theirs in zip(container.addresses, there.addresses, strict=True):
            assert container.ping(theirs) is not None
            assert there.ping(mine) is not None


def test_a_container_in_the_foreground_takes_its_attachment_with_it(lab: Lab, runtimes: Runtimes) -> None:
    container = runtimes.containerds[0].run_in_foreground("short", "blue")
    lab.in_force(container)
    runtimes.containerds[0].ctr("task", "kill", "--signal", "SIGTERM", "short")
    eventually(lambda: container.name not in lab.published("blue"), "its endpoint is gone")


def test_a_pod_has_an_address_its_port_and_its_limit_and_leaves_nothing(lab: Lab, kubelet: Kubelet) -> None:
    host = lab.hosts[0]
    wishes = {"kubernetes.io/ingress-bandwidth": "8M"}
    sandbox = kubelet.run("web-0", (PortMapping(container_port=80, host_port=8060),), wishes)
    namespace = kubelet.namespace(sandbox)
    pod = workloads.found(host, sandbox, "blue", namespace)
    known = kubelet.status(sandbox).status.network
    assert [str(address) for address in pod.addresses] == [known.ip, *(each.ip for each in known.additional_ips)]
    assert "rate 8Mbit burst 10000b lat 25ms" in host.run("tc", "-n", "ov-blue", "qdisc", "show")
    lab.in_force(pod)
    listed = lab.overlayctl("endpoint", "list", "--pod", "web-0", "--pod-namespace", "shop", "--json")
    assert [each["container_id"] for each in json.loads(listed)] == [sandbox]
    with Server(pod.enter, str(pod.address), 80):
        assert ask(lab.enter_underlay, str(host.address), 8060) is not None
    for _ in range(2):
        kubelet.stop(sandbox)
    assert "dport 8060" not in host.run("nft", "list", "table", "inet", "overlayd")
    eventually(lambda: sandbox not in lab.published("blue"), "its endpoint is gone")
    for _ in range(2):
        kubelet.remove(sandbox)
    assert Path(namespace).name not in host.run("ls", "/run/netns").split()


def test_what_ends_while_the_agent_is_away_is_freed_with_a_word_or_without(
    lab: Lab, runtimes: Runtimes, kubelet: Kubelet
) -> None:
    first, second = runtimes.containerds
    pod = kubelet.run("old")
    kept, lost, there = first.run("kept", "blue"), first.run("lost", "blue"), second.run("there", "blue")
    beside = first.run_beside("beside", kept)
    lab.in_force(kept, lost, there)
    eventually(lambda: pod in lab.published("blue"), "the pod is known")
    first.host.stop_agent()
    kubelet.stop(pod)
    kubelet.remove(pod)
    for name in ("kept", "lost"):
        first.kill(name)
    with pytest.raises(grpc.RpcError, match="the overlayd agent is not running"):
        kubelet.run("new")
    first.host.start_agent("--resync", "1")
    eventually(lambda: not {pod, lost.name} & lab.published("blue"), "the endpoints of both are gone")
    kubelet.run("new")
    assert kept.name in lab.published("blue"), "its sandbox lives on with another container"
    assert there.ping(kept.address) is not None
    assert beside.ping(there.address) is not None


def test_a_pod_does_not_stop_without_a_list_and_does_with_the_next_one(lab: Lab, kubelet: Kubelet) -> None:
    host = lab.hosts[0]
    stuck, other = kubelet.run("stuck"), kubelet.run("other")
    host.run("sh", "-ec", "cp -r /etc/cni/net.d /run/lists; rm /etc/cni/net.d/*")
    eventually(lambda: not kubelet.has_network, "the lists are gone")
    for attempt in (kubelet.stop, kubelet.remove, kubelet.run):
        with pytest.raises(grpc.RpcError, match="cni plugin not initialized"):
            attempt(stuck)
    host.run("sh", "-ec", "cp /run/lists/*blue* /etc/cni/net.d/00-blue.conflist; rm /run/lists/*blue*")
    eventually(lambda: kubelet.has_network, "containerd has seen it")
    kubelet.stop(stuck)
    # The list of the same name is for another network now.
    host.run(
        "sed", "-i", 's/"type": "overlayd",/"type": "overlayd", "network": "green",/', "/etc/cni/net.d/00-blue.conflist"
    )
    eventually(lambda: "green" in kubelet.network, "containerd has seen that, too")
    kubelet.stop(other)
    eventually(lambda: not {stuck, other} & lab.published("blue"), "what they had is free")
    host.run("sh", "-ec", "rm /etc/cni/net.d/00-blue.conflist; cp /run/lists/* /etc/cni/net.d")
    host.install("blue", "green")
    eventually(lambda: "green" not in kubelet.network and kubelet.has_network, "all is as before")


def test_a_pod_wants_the_loopback_plugin(lab: Lab, kubelet: Kubelet) -> None:
    host = lab.hosts[0]
    host.run("mv", "/opt/cni/bin/loopback", "/run")
    with pytest.raises(grpc.RpcError, match='failed to find plugin "loopback"'):
        kubelet.run("without")
    host.run("mv", "/run/loopback", "/opt/cni/bin")
    kubelet.run("with")


def test_an_address_a_mac_and_a_port_are_what_was_asked_for(lab: Lab, podman: Podman) -> None:
    wishes = ["--ip", "10.32.0.9", "--mac-address", "02:00:00:00:00:09", "--publish", "8080:80"]
    container = podman.run("named", "blue", *wishes)
    assert container.address == ip_address("10.32.0.9")
    assert container.result["interfaces"] == [{"name": "eth0", "mac": "02:00:00:00:00:09"}]
    podman.podman("restart", "named")
    container = podman.found("named", "blue")
    assert container.address == ip_address("10.32.0.9")
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
    # Not portmap's: that of release 1.1.1 looks for the rules of each family in the tables of both.
    for plugin in ("loopback", "overlayd", "tuning", "firewall"):
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
