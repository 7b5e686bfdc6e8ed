"""What the agent would type: the plans of whole situations, as text in `golden/`."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import State
from overlayd.dataplane.ownership import owns
from overlayd.model.address import Family
from overlayd.model.cluster import Cluster, RecordKey
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import NetworkName, Revision
from overlayd.model.network import Topology, Uplink
from overlayd.model.published_port import PortMapping, Published, TransportProtocol
from tests.support.controllers import clusters

Golden = Callable[[str, str], None]

WEB = clusters.endpoint(1, "web", "10.32.0.2")
DATABASE = clusters.endpoint(2, "db", "10.32.1.2")
ROUTED = clusters.example(Topology.ROUTED)
SWITCHED = clusters.example(Topology.SWITCHED, DATABASE)
BOTH = pytest.mark.parametrize("known", [ROUTED, SWITCHED], ids=["routed", "switched"])


def desired(known: Cluster, *local: Endpoint, underlay_mtu: int = 1500) -> State:
    return resolve(known, clusters.site(underlay_mtu), local)


def plan(after: State, before: State = frozenset()) -> str:
    """Return the plan from one desired state to the next: of the first, sandboxes are not observed."""
    return f"{diff(after, frozenset(item for item in before if owns(item)))}\n"


def name_of(known: Cluster, what: str) -> str:
    return f"{what}-{next(iter(known.networks.values())).topology}.txt"


@pytest.mark.parametrize("topology", Topology)
def test_dual_stack(topology: Topology, golden: Golden) -> None:
    local = clusters.endpoint(1, "web", "10.32.0.2,fd00:32::2")
    known = clusters.dual(topology, clusters.endpoint(2, "db", "10.32.1.2,fd00:32:0:1::2"))
    golden(f"dual-stack-{topology}.txt", plan(desired(known, local)))


@BOTH
def test_reservation_moves_away(known: Cluster, golden: Golden) -> None:
    here, there = (clusters.reservation("db", "10.32.0.2", each) for each in (WEB, replace(WEB, host=DATABASE.host)))
    before, after = (known.changed(Revision(2), [held]) for held in (here, there))
    golden(name_of(known, "reservation-moves-away"), plan(desired(after, WEB), desired(before, WEB)))


@pytest.mark.parametrize("topology", Topology)
def test_underlay_over_ipv6(topology: Topology, golden: Golden) -> None:
    moved = [clusters.host(number, f"2001:db8::{number}") for number in (1, 2, 3)]
    known = clusters.example(topology, DATABASE).changed(Revision(2), moved)
    site = clusters.site(underlay=Family.V6)
    golden(f"underlay-over-ipv6-{topology}.txt", plan(resolve(known, site, [WEB])))


@BOTH
def test_first_start(known: Cluster, golden: Golden) -> None:
    golden(name_of(known, "first-start"), plan(desired(known)))


@BOTH
def test_first_start_with_an_endpoint(known: Cluster, golden: Golden) -> None:
    golden(name_of(known, "first-start-with-endpoint"), plan(desired(known, WEB)))


@BOTH
def test_attach(known: Cluster, golden: Golden) -> None:
    golden(name_of(known, "attach"), plan(desired(known, WEB), desired(known)))


@BOTH
def test_detach(known: Cluster, golden: Golden) -> None:
    golden(name_of(known, "detach"), plan(desired(known), desired(known, WEB)))


@BOTH
def test_mtu_change(known: Cluster, golden: Golden) -> None:
    golden(name_of(known, "mtu-change"), plan(desired(known, WEB, underlay_mtu=9000), desired(known, WEB)))


@BOTH
def test_remote_host_address_change(known: Cluster, golden: Golden) -> None:
    moved = known.changed(Revision(2), [clusters.host(2, "198.51.100.2")])
    golden(name_of(known, "remote-host-address-change"), plan(desired(moved), desired(known)))


@BOTH
def test_own_address_change(known: Cluster, golden: Golden) -> None:
    moved = known.changed(Revision(2), [clusters.host(1, "198.51.100.1")])
    golden(name_of(known, "own-address-change"), plan(desired(moved, WEB), desired(known, WEB)))


@BOTH
def test_block_moved_to_another_host(known: Cluster, golden: Golden) -> None:
    moved = known.changed(Revision(2), [clusters.block(3, "10.32.1.0/24")])
    golden(name_of(known, "block-moved"), plan(desired(moved), desired(known)))


@BOTH
def test_remote_host_forgotten(known: Cluster, golden: Golden) -> None:
    gone = [RecordKey.of(record) for record in (clusters.host(3), clusters.block(3, "10.32.2.0/24"))]
    golden(
        name_of(known, "remote-host-forgotten"), plan(desired(known.changed(Revision(2), deletes=gone)), desired(known))
    )


def test_endpoint_moved_in_a_switched_network(golden: Golden) -> None:
    moved = SWITCHED.changed(Revision(2), [replace(DATABASE, host=clusters.host(3).id)], [RecordKey.of(DATABASE)])
    golden("endpoint-moved-switched.txt", plan(desired(moved), desired(SWITCHED)))


def test_endpoint_moved_here_in_a_switched_network(golden: Golden) -> None:
    here = replace(DATABASE, host=clusters.HERE)
    moved = SWITCHED.changed(Revision(2), [here], [RecordKey.of(DATABASE)])
    golden("endpoint-moved-here-switched.txt", plan(desired(moved, here), desired(SWITCHED)))


def test_an_endpoint_elsewhere_is_no_news_in_a_routed_network() -> None:
    known = clusters.example(Topology.ROUTED, DATABASE)
    assert not diff(desired(known), desired(ROUTED))


@BOTH
def test_network_removed(known: Cluster, golden: Golden) -> None:
    gone = known.changed(Revision(2), deletes=[RecordKey.of(clusters.network())])
    golden(name_of(known, "network-removed"), plan(desired(gone), desired(known, WEB)))


def test_network_made_anew_with_the_other_topology(golden: Golden) -> None:
    golden("routed-becomes-switched.txt", plan(desired(SWITCHED), desired(ROUTED)))
    golden("switched-becomes-routed.txt", plan(desired(ROUTED), desired(SWITCHED)))


@pytest.mark.parametrize("kind", [Uplink.HOST, Uplink.ISOLATED])
@pytest.mark.parametrize("topology", list(Topology))
def test_uplink(topology: Topology, kind: Uplink, golden: Golden) -> None:
    known = clusters.dual(topology)
    blue = replace(known.networks[NetworkName("blue")], uplink=kind)
    # 10.32.0.2 is the host's own address there.
    with_it = desired(known.changed(Revision(2), [blue]), clusters.endpoint(1, "web", "10.32.0.5"))
    golden(f"uplink-{kind}-{topology}.txt", plan(with_it, desired(known)))


def test_egress_ends(golden: Golden) -> None:
    blue = replace(clusters.network(), uplink=Uplink.HOST)
    before, after = (ROUTED.changed(Revision(2), [replace(blue, egress=egress)]) for egress in (True, False))
    golden("egress-ends.txt", plan(desired(after), desired(before)))


@pytest.mark.parametrize("kind", [Uplink.HOST, Uplink.ISOLATED])
def test_port_published(kind: Uplink, golden: Golden) -> None:
    blue = replace(clusters.network(), uplink=kind)
    known = ROUTED.changed(Revision(2), [blue])
    mapping = PortMapping(TransportProtocol.TCP, 8080, 80, IPv4Address("192.0.2.1"))
    site = replace(clusters.site(), published=(Published(blue.name, WEB.addresses, mapping),))
    golden(f"port-published-{kind}.txt", plan(resolve(known, site, [WEB]), desired(known, WEB)))
