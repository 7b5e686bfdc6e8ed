"""What an ADD becomes in the terms of `attach`."""

from overlayd.agent.cni.translation import attach_request
from overlayd.model.endpoint import Pod, Workload
from overlayd.model.ids import ContainerId, InterfaceName, NetworkName
from overlayd.wire.cni.requests import Command, Request
from overlayd.wire.cni.wishes import Wishes

BLUE = NetworkName("blue")


def workload_of(asked: Workload) -> Workload:
    """Return the workload of the request that an ADD with this one becomes."""
    request = Request(
        Command.ADD,
        "1.1.0",
        BLUE,
        ContainerId("c1"),
        InterfaceName("eth0"),
        "/run/netns/c1",
        BLUE,
        Wishes(workload=asked),
    )
    return attach_request(request).workload


def test_a_workload_says_that_it_came_by_cni_and_is_named_as_its_pod() -> None:
    pod = Pod("shop", "web-0", "a1-b2", "8f2c")
    labels = (("app", "web"),)
    assert workload_of(Workload(pod, labels, ("www",))) == Workload(pod, labels, ("www",), "cni", "web-0")


def test_a_container_of_which_no_pod_is_told_has_no_name() -> None:
    assert workload_of(Workload(aliases=("www",))) == Workload(aliases=("www",), runtime="cni")
