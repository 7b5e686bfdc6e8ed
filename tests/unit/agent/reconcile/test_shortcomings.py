"""What a host reports although its kernel is as desired."""

from dataclasses import replace
from ipaddress import IPv4Address, ip_network

from overlayd.agent.controllers.assignments import Holdings
from overlayd.agent.reconcile.shortcomings import Shortcomings
from overlayd.dataplane.desired.resolve import Desired
from overlayd.dataplane.desired.site import Site
from overlayd.model.address import Family
from overlayd.model.cluster import Cluster, Record
from overlayd.model.ids import NetworkName, Revision
from overlayd.model.network import Topology, Uplink
from tests.support.controllers import clusters

BLUE = NetworkName("blue")
WEB = clusters.endpoint(1, "web", "10.32.0.2")
ELSEWHERE = clusters.endpoint(2, "web", "10.32.0.2")


def found(known: Cluster, *more: Record, mtu: int = 1500) -> list[str]:
    return reported(known.changed(Revision(2), more), clusters.site(mtu))


def reported(known: Cluster, site: Site) -> list[str]:
    desired = Desired().of(known, site, [WEB])
    return [str(problem) for problem in Shortcomings().of(known, site, desired, [WEB]).problems]


def test_nothing_is_wrong_with_an_ordinary_cluster() -> None:
    assert found(clusters.dual(Topology.ROUTED)) == []


def test_a_host_of_the_other_underlay_family_is_named_if_it_shares_a_network() -> None:
    known = clusters.example(Topology.ROUTED)
    (problem,) = found(known, clusters.host(2, "2001:db8::2"), clusters.host(9, "2001:db8::9"))
    assert problem.startswith("host node-2: cannot be reached: its underlay address is 2001:db8::2")


def test_a_host_that_has_given_up_the_address_of_this_one_is_named() -> None:
    (problem,) = found(clusters.example(Topology.ROUTED), clusters.host(2, str(clusters.host(1).address)))
    assert problem.startswith("host node-2: cannot be reached: it has given up its address 192.0.2.1")


def test_an_mtu_that_is_too_small_for_ipv6_matters_where_there_is_ipv6() -> None:
    assert found(clusters.example(Topology.ROUTED), mtu=1300) == []
    (problem,) = found(clusters.dual(Topology.ROUTED), mtu=1300)
    assert problem == "network blue: no IPv6 on this host: it needs an MTU of 1280 bytes, and the underlay leaves 1250"


def test_an_endpoint_that_lost_its_reservation_is_named_with_who_has_it() -> None:
    known = clusters.example(Topology.ROUTED)
    assert found(known, clusters.reservation("db", "10.32.0.2", WEB)) == []
    (moved,) = found(known, clusters.reservation("db", "10.32.0.2", ELSEWHERE))
    assert moved == (
        "endpoint blue/web/eth0: lost its reserved address 10.32.0.2: container web on host host-2 has it now"
    )
    (released,) = found(known, clusters.reservation("db", "10.32.0.2"))
    assert released.endswith("it has no holder")


def test_a_reservation_of_another_network_takes_nothing() -> None:
    known = clusters.example(Topology.ROUTED)
    assert found(known, replace(clusters.reservation("db", "10.32.0.2", ELSEWHERE), network=NetworkName("red"))) == []


def test_an_address_beside_a_lost_one_is_kept() -> None:
    both = replace(WEB, addresses=(IPv4Address("10.32.0.2"), *clusters.endpoint(1, "web", "fd00:32::2").addresses))
    known = clusters.dual(Topology.ROUTED).changed(Revision(2), [clusters.reservation("db", "fd00:32::2", ELSEWHERE)])
    assert {Family.of(address) for address in Holdings(known, clusters.HERE).kept(both)} == {Family.V4}


def test_a_network_that_is_isolated_for_a_lifeline_in_its_range_is_named_with_both() -> None:
    known = clusters.example(Topology.ROUTED)
    blue = replace(known.networks[BLUE], uplink=Uplink.AUTO)
    (problem,) = found(known, blue, clusters.host(9, "10.32.7.7"))
    assert problem == (
        "network blue: isolated on this host, as its range 10.32.0.0/16 holds 10.32.7.7, the VTEP of host node-9"
    )
    assert found(known, replace(blue, uplink=Uplink.ISOLATED), clusters.host(9, "10.32.7.7")) == []


def test_a_network_that_is_isolated_anyway_as_it_says_is_no_problem() -> None:
    known = clusters.example(Topology.ROUTED)
    blue = replace(known.networks[BLUE], uplink=Uplink.AUTO)
    flat = replace(clusters.site(), foreign_routes=frozenset({ip_network("10.32.7.0/24")}))
    changed = known.changed(Revision(2), [blue, clusters.host(9, "10.32.7.7")])
    assert reported(changed, flat) == []
    asked = changed.changed(Revision(3), [replace(blue, uplink=Uplink.HOST)])
    assert len(reported(asked, flat)) == 1
