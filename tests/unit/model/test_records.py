"""Networks, hosts and endpoints validate themselves; an error names the field."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network

import pytest

from overlayd.model.address import Family
from overlayd.model.errors import InvalidValue
from overlayd.model.host import check_vtep_address
from overlayd.model.ids import ContainerId, HostId, HostNumber, InterfaceName, MacAddress, NetworkName, Vni
from overlayd.model.network import Pool
from tests.support.controllers import clusters

NETWORK = clusters.network()
HOST = clusters.host(7)
ENDPOINT = clusters.endpoint(7, "web", "10.32.0.5")


@pytest.mark.parametrize(
    ("cidr", "block_length", "field", "reason"),
    [
        ("10.0.0.0/7", 24, "range", "larger than a /8"),
        ("0.0.0.0/8", 24, "range", "overlaps 0.0.0.0/8"),
        ("127.1.0.0/16", 24, "range", "overlaps 127.0.0.0/8"),
        ("169.254.0.0/17", 24, "range", "overlaps 169.254.0.0/16"),
        ("169.0.0.0/8", 24, "range", "overlaps 169.254.0.0/16"),
        ("224.0.0.0/24", 24, "range", "overlaps 224.0.0.0/3"),
        ("255.255.255.0/24", 24, "range", "overlaps 224.0.0.0/3"),
        ("241.0.0.0/24", 24, "range", "overlaps 224.0.0.0/3"),
        ("::/16", 112, "range", "overlaps ::/8"),
        ("::ffff:10.0.0.0/112", 120, "range", "overlaps ::/8"),
        ("64:ff9b::/96", 112, "range", "overlaps ::/8"),
        ("64:ff9b:1::/48", 112, "range", "overlaps ::/8"),
        ("fe80::/64", 112, "range", "overlaps fe80::/10"),
        ("ff02::/64", 112, "range", "overlaps ff00::/8"),
        ("fd6f:7665:726c:6179::/64", 112, "range", "overlaps fd6f:7665:726c:6179::/64"),
        ("fd6f:7665:726c:6179:1::/80", 112, "range", "overlaps fd6f:7665:726c:6179::/64"),
        ("fd6f:7665:726c::/48", 112, "range", "overlaps fd6f:7665:726c:6179::/64"),
        ("10.32.0.0/16", 15, "block_length", "larger than the range"),
        ("10.32.0.0/16", 0, "block_length", "larger than the range"),
        ("10.32.0.0/16", -1, "block_length", "larger than the range"),
        ("10.32.0.0/16", 30, "block_length", "no room for containers"),
        ("10.32.0.0/30", 30, "block_length", "no room for containers"),
        ("10.32.0.0/16", 10**6, "block_length", "no room for containers"),
    ],
)
def test_a_pool_that_cannot_be_divided_into_blocks_is_refused(
    cidr: str, block_length: int, field: str, reason: str
) -> None:
    with pytest.raises(InvalidValue, match=reason) as caught:
        Pool(ip_network(cidr), block_length)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("cidr", "block_length", "capacity"),
    [("10.0.0.0/8", 29, 2**21), ("10.32.0.0/16", 24, 256), ("10.32.0.0/16", 16, 1), ("192.0.2.0/29", 29, 1)],
)
def test_a_pool_knows_how_many_blocks_it_holds(cidr: str, block_length: int, capacity: int) -> None:
    assert Pool(IPv4Network(cidr), block_length).capacity == capacity


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("name", lambda: replace(NETWORK, name=NetworkName("no name"))),
        ("vni", lambda: replace(NETWORK, vni=Vni(0))),
        ("vni", lambda: replace(NETWORK, vni=Vni(2**24))),
        ("pools", lambda: replace(NETWORK, pools=())),
    ],
)
def test_a_network_with_a_wrong_field_is_refused(field: str, change: Callable[[], object]) -> None:
    with pytest.raises(InvalidValue) as caught:
        change()
    assert caught.value.field == field


def test_ranges_of_a_network_do_not_overlap() -> None:
    first, inside = Pool(IPv4Network("10.32.0.0/16"), 24), Pool(IPv4Network("10.32.4.0/22"), 26)
    with pytest.raises(InvalidValue, match="overlaps") as caught:
        replace(NETWORK, pools=(first, Pool(IPv6Network("fd00::/48"), 112), inside))
    assert caught.value.field == "pools[2].range"


def test_a_network_knows_the_pool_of_a_block() -> None:
    first, second = Pool(IPv4Network("10.32.0.0/16"), 24), Pool(IPv6Network("fd00::/48"), 112)
    network = replace(NETWORK, pools=(first, second))
    assert network.pool_of(IPv4Network("10.32.4.0/24")) is first
    assert network.pool_of(IPv6Network("fd00::1:0/112")) is second
    assert network.pool_of(IPv4Network("10.33.0.0/24")) is None
    assert network.families == {Family.V4, Family.V6}


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("id", lambda: replace(HOST, id=HostId("no id"))),
        ("number", lambda: replace(HOST, number=HostNumber(0))),
        ("number", lambda: replace(HOST, number=HostNumber(64_001))),
        ("name", lambda: replace(HOST, name="")),
        ("name", lambda: replace(HOST, name="a" * 254)),
        ("name", lambda: replace(HOST, name="two\nlines")),
        ("address", lambda: replace(HOST, address=IPv4Address("0.0.0.0"))),
        ("address", lambda: replace(HOST, address=IPv4Address("127.0.0.1"))),
        ("address", lambda: replace(HOST, address=IPv4Address("224.0.0.1"))),
        ("address", lambda: replace(HOST, address=IPv4Address("239.255.255.255"))),
        ("address", lambda: replace(HOST, address=IPv4Address("240.0.0.1"))),
        ("address", lambda: replace(HOST, address=IPv4Address("255.255.255.255"))),
    ],
)
def test_a_host_with_a_wrong_field_is_refused(field: str, change: Callable[[], object]) -> None:
    with pytest.raises(InvalidValue) as caught:
        change()
    assert caught.value.field == field


@pytest.mark.parametrize("name", ["a", "node 7 (rack ü)", "n" * 253])
def test_a_display_name_is_for_people(name: str) -> None:
    assert replace(HOST, name=name).name == name


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("network", lambda: replace(ENDPOINT, network=NetworkName(""))),
        ("container_id", lambda: replace(ENDPOINT, container_id=ContainerId("a/b"))),
        ("interface", lambda: replace(ENDPOINT, interface=InterfaceName(".."))),
        ("host", lambda: replace(ENDPOINT, host=HostId(""))),
        ("mac", lambda: replace(ENDPOINT, mac=MacAddress("ff:ff:ff:ff:ff:ff"))),
    ],
)
def test_an_endpoint_with_a_wrong_field_is_refused(field: str, change: Callable[[], object]) -> None:
    with pytest.raises(InvalidValue) as caught:
        change()
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("number", "mac", "next_hops"),
    [
        (1, "02:6f:76:00:00:01", ["169.254.2.1", "fe80::6f76:1"]),
        (254, "02:6f:76:00:00:fe", ["169.254.2.254", "fe80::6f76:fe"]),
        (256, "02:6f:76:00:01:00", ["169.254.3.0", "fe80::6f76:100"]),
        (64_000, "02:6f:76:00:fa:00", ["169.254.252.0", "fe80::6f76:fa00"]),
    ],
)
def test_a_vtep_follows_from_the_host_number(number: int, mac: str, next_hops: list[str]) -> None:
    vtep = clusters.host(number, "192.0.2.9").vtep
    assert (str(vtep.address), vtep.mac) == ("192.0.2.9", mac)
    assert [str(vtep.next_hop(family)) for family in Family] == next_hops


@pytest.mark.parametrize(
    "address",
    [
        "fe80::1",
        "::1",
        "::",
        "ff02::1",
        "::ffff:192.0.2.1",
        "fd6f:7665:726c:6179::1",
        "127.0.0.1",
        "0.0.0.0",
        "0.0.0.1",
        "0.255.255.255",
        "::2",
        "64:ff9b::192.0.2.1",
        "224.0.0.1",
        "255.255.255.255",
    ],
)
def test_an_underlay_address_is_one_that_other_hosts_reach(address: str) -> None:
    with pytest.raises(InvalidValue, match="not a unicast address that other hosts can reach"):
        check_vtep_address(ip_address(address))


@pytest.mark.parametrize("address", ["0.0.0.1", "::2"])
def test_a_record_with_an_address_that_an_earlier_release_accepted_can_be_read(address: str) -> None:
    assert replace(HOST, address=ip_address(address)).vtep.address == ip_address(address)


def test_a_new_underlay_address_leaves_mac_and_next_hop() -> None:
    moved = replace(HOST, address=IPv4Address("198.51.100.1"))
    assert moved.vtep == replace(HOST.vtep, address=IPv4Address("198.51.100.1"))


def test_records_are_values() -> None:
    assert hash(ENDPOINT) == hash(clusters.endpoint(7, "web", "10.32.0.5"))
    assert {HOST, clusters.host(7), NETWORK, clusters.network()} == {HOST, NETWORK}
    with pytest.raises(FrozenInstanceError):
        ENDPOINT.sandbox = "/elsewhere"  # type: ignore[misc]


def test_an_error_shows_its_field_before_the_sentence() -> None:
    assert str(InvalidValue("is required", field="pools[0].range")) == "pools[0].range: is required"
    assert str(InvalidValue("is required")) == "is required"


def test_the_gateway_of_containers_ends_in_the_number_of_the_network() -> None:
    network = replace(clusters.network(), gateway_number=7)
    assert [str(network.link_local_gateway(family)) for family in Family] == ["169.254.1.7", "fe80::7"]
