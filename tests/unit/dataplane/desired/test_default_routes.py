"""A container with several interfaces has a default route for each, with metrics that never change and never meet."""

from dataclasses import replace

import pytest

from overlayd.dataplane.desired.endpoint import resolve_endpoint
from overlayd.dataplane.items import Route
from overlayd.dataplane.ownership import owns_host_device
from overlayd.model.ids import InterfaceName
from overlayd.model.network import Uplink
from tests.support.controllers import clusters

BLUE = replace(clusters.network(), uplink=Uplink.HOST, egress=True)


def metric(interface: str) -> int:
    endpoint = clusters.endpoint(1, "web", "10.32.0.5", interface=interface)
    items = resolve_endpoint(BLUE, endpoint, 1450)
    (found,) = (item.metric for item in items if isinstance(item, Route) and not item.dst.prefixlen)
    return found


@pytest.mark.parametrize(
    ("interface", "expected"),
    [("eth0", 0), ("lan", 90_832), ("eth1", 153_640), ("net12345", 22_697_768), ("a-1234", 15_409_674)],
)
def test_the_metric_follows_from_the_name(interface: str, expected: int) -> None:
    assert metric(interface) == expected


def test_interfaces_with_one_number_have_different_metrics_in_the_order_of_numbers() -> None:
    assert metric("eth1") != metric("net1")
    assert metric("eth0") < metric("net1") < metric("eth2") < metric("eth10")


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [("ov1", True), ("ov", False), ("ovx", False), ("17", False), ("eth0", False)],
)
def test_an_uplink_is_recognised_by_its_name(name: str, is_ours: bool) -> None:  # noqa: FBT001 - a case
    assert owns_host_device(InterfaceName(name)) is is_ours
