"""Lifelines: the lowest one inside a range is found, of the range's own family."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from overlayd.ipam.lifelines import Lifeline, Lifelines, of_hosts
from overlayd.model.network import Pool
from tests.support.controllers import clusters


def lifeline(address: str, what: str = "the controller") -> Lifeline:
    return Lifeline(ip_address(address), what)


KNOWN = Lifelines(map(lifeline, ("fd00::1", "192.0.2.9", "10.40.0.7", "10.32.0.1", "10.40.0.3", "fd00:1::1")))


@pytest.mark.parametrize(
    ("cidr", "found"),
    [
        ("10.40.0.0/16", "10.40.0.3"),
        ("10.40.0.4/30", "10.40.0.7"),
        ("10.40.0.3/32", "10.40.0.3"),
        ("10.0.0.0/8", "10.32.0.1"),
        ("10.41.0.0/16", None),
        ("203.0.113.0/24", None),
        ("fd00::/64", "fd00::1"),
        ("fd00:1::/32", "fd00:1::1"),
        ("fd00:2::/32", None),
    ],
)
def test_the_lowest_lifeline_in_a_range_is_found(cidr: str, found: str | None) -> None:
    assert KNOWN.within(ip_network(cidr)) == (lifeline(found) if found else None)


def test_lifelines_at_one_address_are_found_by_their_description() -> None:
    both = Lifelines([lifeline("10.0.0.1", "the gateway"), lifeline("10.0.0.1", "a controller")])
    assert both.within(ip_network("10.0.0.0/8")) == lifeline("10.0.0.1", "a controller")


def test_each_range_of_a_network_with_a_lifeline_is_a_conflict() -> None:
    pools = tuple(Pool(ip_network(each), 24) for each in ("10.32.0.0/16", "10.50.0.0/16", "10.40.0.0/16"))
    network = replace(clusters.network(), pools=pools)
    found = list(KNOWN.conflicts(network))
    assert [(each.network, str(each.range), str(each.lifeline.address)) for each in found] == [
        (network, "10.32.0.0/16", "10.32.0.1"),
        (network, "10.40.0.0/16", "10.40.0.3"),
    ]
    assert str(found[0]) == "its range 10.32.0.0/16 holds 10.32.0.1, the controller"
    assert list(Lifelines().conflicts(network)) == []


def test_tunnel_ends_are_lifelines() -> None:
    assert list(of_hosts([clusters.host(7)])) == [lifeline("192.0.2.7", "the VTEP of host node-7")]
