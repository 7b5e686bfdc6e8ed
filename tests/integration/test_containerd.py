"""containerd, by its own command `ctr` and by the interface that Kubernetes uses, on two hosts of one network."""

import json
from collections.abc import Iterator

import grpc
import pytest

from tests.support import workloads
from tests.support.containerd import Containerd
from tests.support.cri import Kubelet
from tests.support.cri_pb2 import PortMapping
from tests.support.images import archive, root_filesystem
from tests.support.lab import Lab
from tests.support.processes import eventually
from tests.support.talking import Server, ask


@pytest.fixture(scope="module")
def containerds(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Containerd]]:
    """One on each host, which has a conflist of one network, blue."""
    directory = tmp_path_factory.mktemp("image")
    image = archive(root_filesystem(directory / "root"), directory / "image.tar")
    lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
    one, other = lab.hosts
    with Containerd(one, image) as first, Containerd(other, image) as second:
        for host in lab.hosts:
            host.install("blue")
        yield [first, second]


@pytest.fixture(scope="module")
def kubelet(containerds: list[Containerd]) -> Iterator[Kubelet]:
    """Of the first host, where the conflist was put in place while containerd ran."""
    first = containerds[0]
    with Kubelet(first.endpoint, first.group.name) as made:
        eventually(lambda: made.has_network, "containerd has seen the conflist")
        yield made


def test_containers_of_ctr_reach_each_other_across_hosts(lab: Lab, containerds: list[Containerd]) -> None:
    here, there = (each.run("web", "blue") for each in containerds)
    lab.in_force(here, there)
    assert here.ping(there.address) is not None
    assert there.ping(here.address) is not None


def test_a_container_in_the_foreground_takes_its_attachment_with_it(lab: Lab, containerds: list[Containerd]) -> None:
    container = containerds[0].run_in_foreground("short", "blue")
    lab.in_force(container)
    containerds[0].ctr("task", "kill", "--signal", "SIGTERM", "short")
    eventually(lambda: container.name not in lab.published("blue"), "its endpoint is gone")


def test_a_pod_has_an_address_its_port_and_its_limit_and_leaves_nothing(
    lab: Lab, containerds: list[Containerd], kubelet: Kubelet
) -> None:
    host = lab.hosts[0]
    wishes = {"kubernetes.io/ingress-bandwidth": "8M"}
    sandbox = kubelet.run("web-0", (PortMapping(container_port=80, host_port=8080),), wishes)
    pod = workloads.found(host, sandbox, "blue", kubelet.namespace(sandbox))
    assert str(pod.address) == kubelet.status(sandbox).status.network.ip
    assert "rate 8Mbit burst 10000b lat 25ms" in host.run("tc", "-n", "ov-blue", "qdisc", "show")
    beside = containerds[1].run("beside", "blue")
    lab.in_force(pod, beside)
    assert pod.ping(beside.address) is not None
    assert beside.ping(pod.address) is not None
    listed = lab.overlayctl("endpoint", "list", "--pod", "web-0", "--pod-namespace", "shop", "--json")
    assert [each["container_id"] for each in json.loads(listed)] == [sandbox]
    with Server(pod.enter, str(pod.address), 80):
        assert ask(lab.enter_underlay, str(host.address), 8080) is not None
    for _ in range(2):
        kubelet.stop(sandbox)
    assert "dport 8080" not in host.run("nft", "list", "table", "inet", "overlayd")
    eventually(lambda: sandbox not in lab.published("blue"), "its endpoint is gone")
    for _ in range(2):
        kubelet.remove(sandbox)
    assert "cni-" not in host.run("ls", "/run/netns")


def test_a_pod_ends_while_the_agent_is_away_and_a_new_one_waits_for_it(lab: Lab, kubelet: Kubelet) -> None:
    host = lab.hosts[0]
    sandbox = kubelet.run("old")
    eventually(lambda: sandbox in lab.published("blue"), "the pod is known")
    host.stop_agent()
    kubelet.stop(sandbox)
    kubelet.remove(sandbox)
    with pytest.raises(grpc.RpcError, match="the overlayd agent is not running"):
        kubelet.run("new")
    host.start_agent()
    eventually(lambda: sandbox not in lab.published("blue"), "its endpoint is gone")
    kubelet.run("new")
