"""What docs/kubernetes.md says of a node, seen with containerd 1.6, 1.7 and 2.1, asked as a kubelet asks it."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.support.lab.lab import COMMANDS, Container, Lab, LabHost
from tests.support.lab.processes import eventually
from tests.support.machines.rootfs import CONTAINERD_2, RUNTIMES_13, Rootfs
from tests.support.packets.conversation import Server, ask
from tests.support.runtimes import workloads
from tests.support.runtimes.containerd import Containerd
from tests.support.runtimes.cri import Kubelet
from tests.support.runtimes.cri_pb2 import PortMapping
from tests.support.runtimes.images import archive, root_filesystem

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(600)]  # the first test of a release may wait for its root

RELEASES: dict[str, Rootfs | None] = {"1.6": None, "1.7": RUNTIMES_13, "2.1": CONTAINERD_2}
"""The root file system with containerd, by the start of its version; None is this machine's."""

LISTS = "/etc/cni/net.d"
CALLS = Path("/run/cni-calls")

_RECORD = f"""\
#!/bin/sh
echo "$CNI_COMMAND" >>{CALLS}
exec /opt/cni/overlayd "$@"
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A host with containerd and a kubelet. Its plugin records the commands that it is asked for."""

    lab: Lab
    release: str
    containerd: Containerd
    kubelet: Kubelet

    @property
    def host(self) -> LabHost:
        return self.containerd.host

    def install(self, network: str, *options: str) -> None:
        """Install a list as an administrator does, the only one of the node; the plugin is installed already."""
        self.host.run("sh", "-ec", f"rm -f {LISTS}/*")
        self.overlayd("install-cni", network, "--bin-dir", "/opt/cni/unused", *options)
        eventually(lambda: network in self.kubelet.network, "containerd has seen the list")

    def overlayd(self, *words: str) -> str:
        return self.host.run(str(COMMANDS / "overlayd"), *words)

    @property
    def calls(self) -> list[str]:
        """What containerd has asked the plugin for so far."""
        return self.host.inside(CALLS).read_text().split()

    def run(self, name: str, *ports: PortMapping) -> Container:
        """Start a pod; return its sandbox, called by the id of its container."""
        sandbox = self.kubelet.run(name, ports)
        return workloads.found(self.host, sandbox, "pods", self.kubelet.namespace(sandbox))

    def remove(self, *pods: Container) -> None:
        for pod in pods:
            self.kubelet.stop(pod.name)
            self.kubelet.remove(pod.name)
        eventually(lambda: not {pod.name for pod in pods} & self.lab.published("pods"), "their endpoints are gone")


@pytest.fixture(scope="module", params=RELEASES)
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    directory = tmp_path_factory.mktemp("image")
    image = archive(root_filesystem(directory / "root"), directory / "image.tar")
    with ExitStack() as running:
        lab = running.enter_context(Lab(tmp_path_factory.mktemp("lab"), hosts=2))
        lab.start_controller()
        for host in lab.hosts:
            host.start_agent("--resync", "1")  # looks for pods that are gone every second
        lab.overlayctl("network", "create", "pods", "--range", "10.32.0.0/16", "--uplink", "host")
        lab.overlayctl("network", "create", "other", "--range", "10.33.0.0/16")
        containerd = running.enter_context(Containerd(lab.hosts[0], image, RELEASES[request.param]))
        assert containerd.version.startswith(f"{request.param}.")
        kubelet = running.enter_context(Kubelet(containerd.endpoint, containerd.group.name))
        made = Node(lab, request.param, containerd, kubelet)
        made.overlayd("install-cni", "--bin-dir", "/opt/cni")
        put = f'printf %s "$1" >/opt/cni/bin/overlayd; chmod 755 /opt/cni/bin/overlayd; : >{CALLS}'
        made.host.run("sh", "-ec", put, "sh", _RECORD)
        yield made


@pytest.fixture
def ready(node: Node) -> Node:
    """The node with the page's list."""
    node.install("pods", "--name", "k8s-pods")
    eventually(lambda: node.kubelet.has_network, "it is ready")
    return node


def test_pods_are_reached_by_others_by_the_node_and_by_a_port_of_it(ready: Node) -> None:
    there = ready.lab.hosts[1].attach("there", "pods")
    pod = ready.run("web", PortMapping(container_port=80, host_port=8060))
    ready.lab.in_force(pod, there)
    assert pod.ping(there.address) is not None
    assert there.ping(pod.address) is not None
    ready.host.run("ping", "-nc1", "-W2", str(pod.address))
    with Server(pod.enter, str(pod.address), 80):
        assert ask(ready.lab.enter_underlay, str(ready.host.address), 8060) is not None
    ready.remove(pod)
    ready.host.run("sh", "-ec", "! nft list table inet overlayd | grep 8060")
    assert ready.lab.hosts[1].detach(there).status == 0
    ready.lab.hosts[1].remove_sandbox("there")


def test_containerd_never_asks_for_a_collection(ready: Node) -> None:
    options = ["--cni-version", "1.1.0"] if ready.release == "2.1" else []
    ready.install("pods", "--name", "k8s-pods", *options)
    pods = [ready.run("one"), ready.run("two")]
    ready.containerd.stop()
    ready.containerd.start()
    eventually(lambda: ready.kubelet.has_network, "it is ready again")
    ready.remove(*pods)
    asked = {"ADD", "DEL", "STATUS"} if options else {"ADD", "DEL"}
    assert asked <= set(ready.calls) <= asked | {"VERSION"}


def test_status_is_the_condition_of_the_node(ready: Node) -> None:
    host, kubelet = ready.host, ready.kubelet
    ready.install("pods", "--name", "k8s-pods", "--cni-version", "1.1.0")
    if ready.release != "2.1":
        assert "STATUS" not in ready.calls
        with pytest.raises(grpc.RpcError, match=re.escape("1.1.0")):
            kubelet.run("refused")
        return
    eventually(lambda: kubelet.has_network, "the node is ready")
    host.stop_agent()
    assert "the overlayd agent is not running" in kubelet.why_not_ready
    host.start_agent("--resync", "1")
    eventually(lambda: kubelet.has_network, "the node is ready again")
    ready.lab.overlayctl("host", "drain", host.name)
    eventually(lambda: "drain" in kubelet.why_not_ready, "the kubelet knows that it is drained")
    ready.lab.overlayctl("host", "resume", host.name)
    eventually(lambda: kubelet.has_network, "and that it is not any more")
    assert ready.calls[-1] == "STATUS"


def test_no_pod_starts_without_the_loopback_plugin(ready: Node) -> None:
    ready.host.run("mv", "/opt/cni/bin/loopback", "/run")
    with pytest.raises(grpc.RpcError, match='failed to find plugin "loopback"'):
        ready.kubelet.run("without")
    ready.host.run("mv", "/run/loopback", "/opt/cni/bin")
    ready.remove(ready.run("with"))


def test_a_pod_does_not_stop_until_its_list_is_back(ready: Node) -> None:
    pod = ready.run("stuck")
    ready.overlayd("install-cni", "--remove", "pods", "--name", "k8s-pods", "--bin-dir", "/opt/cni/unused")
    eventually(lambda: not ready.kubelet.has_network, "the list is gone")
    for attempt in (ready.kubelet.stop, ready.kubelet.remove, ready.kubelet.run):
        with pytest.raises(grpc.RpcError, match="cni plugin not initialized"):
            attempt(pod.name)
    ready.install("pods", "--name", "k8s-pods")
    ready.remove(pod)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("other", "--name", "k8s-pods"), id="for another network"),
        pytest.param(("pods", "--name", "renamed"), id="by another name"),
        pytest.param(("other", "--name", "renamed"), id="for another network by another name"),
    ],
)
def test_a_pod_stops_with_another_list_of_ours_and_is_freed(ready: Node, options: tuple[str, ...]) -> None:
    pod = ready.run("before")
    ready.lab.in_force(pod)
    ready.install(*options)
    ready.remove(pod)
    assert ready.host.execute(["test", "-e", pod.sandbox]).returncode == 1


def test_a_pod_stops_with_a_list_of_another_plugin_and_is_freed_when_its_namespace_is_gone(ready: Node) -> None:
    pod = ready.run("before")
    ready.lab.in_force(pod)
    theirs = {"cniVersion": "1.0.0", "name": "theirs", "plugins": [{"type": "loopback"}]}
    ready.host.run("sh", "-ec", f'rm {LISTS}/*; echo "$1" >{LISTS}/00-theirs.conflist', "sh", json.dumps(theirs))
    eventually(lambda: "theirs" in ready.kubelet.network, "containerd has seen the list")
    ready.remove(pod)
