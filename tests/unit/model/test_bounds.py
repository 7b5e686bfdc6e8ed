"""The largest and smallest values of each record are accepted, the next ones are refused with their field."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from overlayd.model.address import alone, interface
from overlayd.model.bandwidth import BURST_MAX, RATE_MAX, RATE_MIN, Rate
from overlayd.model.endpoint import COUNT_MAX, SHARES_MAX, SIZE_MAX, TEXT_MAX, Endpoint, Pod, Workload
from overlayd.model.errors import InvalidValue
from overlayd.model.host import check_vtep_address
from overlayd.model.ids import MacAddress, NetworkName, ReservationName, workload_mac
from overlayd.model.network import ETHERTYPES_MAX, POOLS_MAX, RESERVED_MAX, Network, Pool, Topology
from overlayd.model.published_port import PORT_MAX, PortMapping, TransportProtocol
from tests.support.controllers import clusters

SWITCHED = clusters.network(topology=Topology.SWITCHED)
RESERVATION = clusters.reservation("web", "10.32.0.9")
MAPPING = PortMapping(TransportProtocol.TCP, 8080, 80)
MAC = MacAddress("02:00:00:00:00:09")


def pools(count: int) -> Network:
    return replace(SWITCHED, pools=tuple(Pool(ip_network(f"10.{each}.0.0/16"), 24) for each in range(count)))


def reserved(count: int) -> Network:
    return replace(SWITCHED, reserved=tuple(alone(ip_address("10.32.0.0") + each) for each in range(count)))


def ethertypes(*kinds: int) -> Network:
    return replace(SWITCHED, ethertypes=kinds)


def many_ethertypes(count: int) -> Network:
    return ethertypes(*(0x88B5 + each for each in range(count)))


def shares_named(*names: str) -> Endpoint:
    return replace(clusters.endpoint(1, "web", "10.32.0.5"), shares=tuple(map(ReservationName, names)))


def shares(count: int) -> Endpoint:
    return shares_named(*(f"vip{each}" for each in range(count)))


def labels(count: int) -> Workload:
    return Workload(labels=tuple((f"k{each:02}", "") for each in range(count)))


def aliases(size: int) -> Workload:
    return Workload(aliases=("a" * 250,) * (size // 250) + ("a" * (size % 250),))


@pytest.mark.parametrize(
    "make",
    [
        lambda: pools(POOLS_MAX),
        lambda: reserved(RESERVED_MAX),
        lambda: many_ethertypes(ETHERTYPES_MAX),
        lambda: ethertypes(0x0600, 0xFFFF),
        lambda: replace(clusters.network(), gateway_number=254),
        lambda: shares(SHARES_MAX),
        lambda: labels(COUNT_MAX),
        lambda: aliases(SIZE_MAX),
        lambda: Pod(name="p" * TEXT_MAX),
        lambda: Rate(RATE_MIN, 0),
        lambda: Rate(RATE_MAX, BURST_MAX),
        lambda: replace(MAPPING, host_port=1, container_port=PORT_MAX),
        lambda: replace(MAPPING, host_port=PORT_MAX, container_port=1),
        lambda: replace(RESERVATION, mac=MAC),
        lambda: replace(RESERVATION, shared=True),
        lambda: check_vtep_address(ip_address("223.255.255.255"), "address"),
    ],
)
def test_a_value_at_its_bound_is_accepted(make: Callable[[], object]) -> None:
    make()


@pytest.mark.parametrize(
    ("make", "field", "reason"),
    [
        (lambda: pools(POOLS_MAX + 1), "pools", "has 1 to 16 ranges, not 17"),
        (lambda: reserved(RESERVED_MAX + 1), "reserved", "at most 256 reserved ranges"),
        (lambda: replace(SWITCHED, reserved=(ip_network("10.33.0.0/24"),)), "reserved[0]", "lies in no range"),
        (lambda: many_ethertypes(ETHERTYPES_MAX + 1), "ethertypes", "at most 16 EtherTypes"),
        (lambda: replace(clusters.network(), ethertypes=(0x88B5,)), "ethertypes", "IPv4 and IPv6 only"),
        (lambda: ethertypes(0x05FF), "ethertypes[0]", "0x05ff is no EtherType"),
        (lambda: ethertypes(0x88B5, 0x10000), "ethertypes[1]", "0x10000 is no EtherType"),
        (lambda: ethertypes(0x0800), "ethertypes[0]", "0x0800 passes in every network"),
        (lambda: ethertypes(0x8100), "ethertypes[0]", "0x8100 is a VLAN tag"),
        (lambda: ethertypes(0x88B5, 0x88B5), "ethertypes[1]", "0x88b5 is listed twice"),
        (lambda: replace(clusters.network(), gateway_number=2), "gateway_number", "2 is not 1 or 3 to 254"),
        (lambda: replace(clusters.network(), gateway_number=255), "gateway_number", "255 is not 1 or 3 to 254"),
        (lambda: shares(SHARES_MAX + 1), "shares", "at most 16 shared reservations"),
        (
            lambda: replace(
                clusters.endpoint(1, "web", "10.32.0.5"), shares=(ReservationName("a"), ReservationName("/"))
            ),
            "shares[1]",
            "must start with a letter or digit",
        ),
        (lambda: labels(COUNT_MAX + 1), "labels", "65 entries are more than 64"),
        (lambda: aliases(SIZE_MAX + 1), "aliases", "have more than 1500 characters"),
        (lambda: Workload(labels=(("b", ""), ("a", ""))), "labels", "must be in the order of their keys"),
        (lambda: Workload(labels=(("", ""),)), "labels", "must be in the order of their keys"),
        (lambda: Pod(name="p" * (TEXT_MAX + 1)), "name", "ppp.* is longer than 253 characters"),
        (lambda: Pod(namespace="caf\u00e9"), "namespace", "caf.* contains characters other than printable ASCII"),
        (lambda: Rate(RATE_MIN - 1, 0), "Rate", "999 is not in 1000..1000000000000 bits per second"),
        (lambda: Rate(RATE_MAX + 1, 0), "Rate", "1000000000001 is not in"),
        (lambda: Rate(RATE_MIN, -1), "Burst", "-1 is not in 0..17179869184 bits"),
        (lambda: Rate(RATE_MIN, BURST_MAX + 1), "Burst", "17179869185 is not in"),
        (lambda: replace(MAPPING, host_port=0), "hostPort", "0 is not in 1..65535"),
        (lambda: replace(MAPPING, host_port=PORT_MAX + 1), "hostPort", "65536 is not in"),
        (lambda: replace(MAPPING, container_port=0), "containerPort", "0 is not in"),
        (lambda: replace(MAPPING, host_address=ip_address("224.0.0.1")), "hostIP", "224.0.0.1 is a multicast address"),
        (lambda: replace(RESERVATION, shared=True, mac=MAC), "mac", "members of a shared reservation have a MAC each"),
        (lambda: replace(RESERVATION, network=NetworkName("/")), "network", "must start with a letter or digit"),
        (lambda: check_vtep_address(ip_address("240.0.0.0"), "address"), "address", "240.0.0.0 is not a unicast"),
        (
            lambda: workload_mac("02:6f:76:00:00:01", "mac"),
            "mac",
            "02:6f:76:00:00:01.*: 02:6f:76.* is for the",
        ),
        (lambda: workload_mac("03:00:00:00:00:01", "mac"), "mac", "03:00:00:00:00:01.* is not a unicast address"),
    ],
)
def test_a_value_beyond_its_bound_is_refused(make: Callable[[], object], field: str, reason: str) -> None:
    with pytest.raises(InvalidValue, match=reason) as refused:
        make()
    assert refused.value.field == field


@pytest.mark.parametrize(("address", "whole"), [("10.32.0.5", "10.32.0.5/32"), ("fd00::5", "fd00::5/128")])
def test_an_address_alone_has_the_full_prefix_length(address: str, whole: str) -> None:
    assert str(interface(ip_address(address))) == whole
    assert str(alone(ip_address(address))) == whole
    assert interface(ip_address(address), 16).network == ip_network(f"{address}/16", strict=False)
