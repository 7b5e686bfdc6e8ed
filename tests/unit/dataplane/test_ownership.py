"""What is ours, and above all what is not."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface

import pytest

from overlayd.dataplane import ownership
from overlayd.dataplane.desired.endpoint import host_end
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.items import (
    HOST,
    Address,
    BridgeEntry,
    FdbEntry,
    Item,
    Link,
    Namespace,
    NamespaceRef,
    Neighbour,
    NftFamily,
    NftTable,
    Other,
    Route,
    Veth,
)
from overlayd.model.ids import InterfaceName, MacAddress
from overlayd.model.network import Topology
from tests.support.controllers import clusters

OURS = NamespaceRef("/run/netns/ov-blue")
MAC = MacAddress("02:00:0a:20:00:05")
ETH0, VX0, OV7 = InterfaceName("eth0"), InterfaceName("vx0"), InterfaceName("ov7")
IP = IPv4Address("10.32.0.5")
NET = IPv4Network("10.32.0.0/24")


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("/run/netns/ov-blue", True),
        ("/run/netns/blue", False),
        ("/run/netns/cni-1", False),
        ("/proc/1/ns/net", False),
        ("/var/run/netns/ov-blue", False),
        ("/tmp/run/netns/ov-blue", False),  # noqa: S108 - a name, not a file
        ("", False),
    ],
)
def test_a_namespace_is_ours_by_its_path(path: str, ours: bool) -> None:  # noqa: FBT001 - an expected value
    ref = NamespaceRef(path)
    assert ownership.is_network_namespace(ref) is ours
    assert ownership.owns(Namespace(ref, frozenset())) is ours
    assert ownership.owns(Route(ref, NET, VX0, None, 0)) is ours


@pytest.mark.parametrize(
    ("name", "ours"),
    [("lo", True), ("vx0", True), ("br0", True), ("ve3705a4b138d2", True)]
    + [(name, False) for name in ("vx1", "br1", "eth0", "docker0", "wg0", "xve0", "vxlan0", "")],
)
def test_a_device_is_ours_by_its_name(name: str, ours: bool) -> None:  # noqa: FBT001 - an expected value
    assert ownership.owns_link(name) is ours
    assert ownership.owns(Link(OURS, InterfaceName(name), Other("dummy"), MAC, 1500)) is ours


@pytest.mark.parametrize(
    "item",
    [
        Address(OURS, ownership.LOOPBACK, IPv4Interface("169.254.1.1/32")),
        Neighbour(OURS, VX0, IP, MAC),
        FdbEntry(OURS, VX0, MAC, IP),
        BridgeEntry(OURS, ownership.BRIDGE, MAC, VX0),
        Route(OURS, NET, VX0, IP, 7),
        Route(OURS, NET, None, None, 7),
        NftTable(OURS, NftFamily.INET, "overlayd", ""),
        NftTable(HOST, NftFamily.INET, "overlayd", ""),
        NftTable(HOST, NftFamily.INET, "overlayd_vxlan", ""),
        Link(HOST, OV7, Veth(), MAC, 1450),
        Address(HOST, OV7, IPv4Interface("169.254.1.2/32")),
        Address(HOST, OV7, IPv6Interface("fd00:32::2/128")),
        Neighbour(HOST, OV7, IP, MAC),
        Route(HOST, NET, OV7, IP, 0),
    ],
)
def test_entries_on_our_devices_are_ours(item: Item) -> None:
    assert ownership.owns(item)


@pytest.mark.parametrize(
    "item",
    [
        Address(OURS, ownership.LOOPBACK, IPv4Interface("127.0.0.1/8")),
        Address(OURS, VX0, IPv4Interface("10.32.0.5/24")),
        Address(OURS, ETH0, IPv4Interface("169.254.1.1/32")),
        Neighbour(OURS, ETH0, IP, MAC),
        FdbEntry(OURS, ETH0, MAC, IP),
        BridgeEntry(OURS, ownership.BRIDGE, MAC, ETH0),
        Route(OURS, NET, ETH0, IP, 7),
        Route(HOST, NET, VX0, IP, 7),
        Link(HOST, VX0, Other("vxlan"), MAC, 1450),
        Link(HOST, OV7, Other("dummy"), MAC, 1450),
        Link(HOST, ETH0, Veth(), MAC, 1450),
        Address(HOST, ETH0, IPv4Interface("192.0.2.1/24")),
        Address(HOST, ETH0, IPv6Interface("2001:db8::1/64")),
        Address(HOST, OV7, IPv6Interface("fe80::1/64")),
        Neighbour(HOST, ETH0, IP, MAC),
        Route(HOST, NET, ETH0, IP, 0),
        Route(HOST, NET, None, None, 7),
        FdbEntry(HOST, OV7, MAC, IP),
        NftTable(OURS, NftFamily.INET, "filter", ""),
        NftTable(HOST, NftFamily.INET, "firewalld", ""),
    ],
)
def test_addresses_of_others_and_entries_on_their_devices_are_foreign(item: Item) -> None:
    assert not ownership.owns(item)


@pytest.mark.parametrize("topology", Topology)
def test_all_that_is_desired_in_our_namespaces_is_ours_and_nothing_in_a_sandbox(topology: Topology) -> None:
    web = clusters.endpoint(1, "web", "10.32.0.2")
    for item in resolve(clusters.example(topology), clusters.site(), [web]):
        assert ownership.owns(item) is ownership.is_observed(item.ns)


def test_a_hosts_end_is_named_for_container_and_interface() -> None:
    web, database = clusters.endpoint(1, "web", "10.32.0.2"), clusters.endpoint(1, "db", "10.32.0.3")
    second = clusters.endpoint(1, "web", "10.32.0.2", interface="eth1")
    green = clusters.endpoint(2, "web", "10.64.0.9", "green")
    names = [host_end(endpoint.key) for endpoint in (web, database, second)]
    assert len(set(names)) == 3
    assert all(len(name) <= 15 and ownership.owns_link(name) for name in names)
    assert host_end(green.key) == host_end(web.key) == "ve3705a4b138d2"


def test_container_and_interface_do_not_run_into_each_other() -> None:
    one = clusters.endpoint(1, "c1", "10.32.0.2", interface="2eth0")
    other = clusters.endpoint(1, "c12", "10.32.0.2", interface="eth0")
    assert host_end(one.key) != host_end(other.key)
