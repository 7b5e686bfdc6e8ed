"""What a change leaves alone is the same object as before, and the whole is what it would be without a former state."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from overlayd.dataplane.desired.resolve import Desired, Membership
from overlayd.dataplane.desired.site import Site
from overlayd.dataplane.items import HOST, NamespaceRef, NftTable, network_namespace
from overlayd.dataplane.ownership import VXLAN_TABLE
from overlayd.ipam.lifelines import Lifeline
from overlayd.model.cluster import Cluster, Record, RecordKey
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import InterfaceName, NetworkName, Revision
from overlayd.model.network import Network, NetworkState, Topology, Uplink
from tests.support.controllers import clusters

BLUE, GREEN = NetworkName("blue"), NetworkName("green")
OURS, SANDBOX = network_namespace(BLUE), NamespaceRef("/run/netns/web")
SITE = clusters.site()
WEB, OTHER = clusters.endpoint(1, "web", "10.32.0.5"), clusters.endpoint(1, "other", "10.32.0.6")
DATABASE = clusters.endpoint(2, "db", "10.32.1.5")
SECOND, THIRD = clusters.host(2), clusters.host(3)
BOTH = pytest.mark.parametrize("topology", Topology)


def example(topology: Topology, uplink: Uplink = Uplink.HOST) -> Cluster:
    blue = replace(clusters.network(topology=topology), uplink=uplink)
    return clusters.example(topology, DATABASE).changed(Revision(1), [blue])


def as_afresh(before: Desired, cluster: Cluster, *local: Endpoint, site: Site = SITE) -> Desired:
    """Return what follows on a former state, which is what it would be without one."""
    found = before.of(cluster, site, local)
    assert found.spaces == Desired().of(cluster, site, local).spaces
    return found


@BOTH
def test_without_a_change_everything_is_the_same(topology: Topology) -> None:
    known = example(topology)
    before = Desired().of(known, SITE, [WEB])
    after = as_afresh(before, known, WEB)
    assert set(after.spaces) == {HOST, OURS, SANDBOX}
    assert all(state is before.spaces[ns] for ns, state in after.spaces.items())
    assert after.parts[BLUE] is before.parts[BLUE]
    assert after.membership.blocks[BLUE] is before.membership.blocks[BLUE]
    assert after.choice is before.choice
    assert after.host_side is before.host_side


CHANGES: dict[str, list[Record]] = {
    "another block": [clusters.block(2, "10.32.9.0/24")],
    "a block that moves": [clusters.block(3, "10.32.1.0/24")],
    "another endpoint": [clusters.endpoint(3, "far", "10.32.2.5")],
    "an endpoint and a block elsewhere": [
        clusters.endpoint(3, "far", "10.32.2.5"),
        clusters.block(2, "10.32.9.0/24"),
    ],
    "an endpoint that moves": [replace(DATABASE, addresses=(ip_address("10.32.1.6"),))],
    "a host at another address": [clusters.host(2, "198.51.100.2")],
    "a host over the other family": [clusters.host(2, "2001:db8::2")],
    "two hosts with one number": [replace(SECOND, number=THIRD.number)],
    "two endpoints with one MAC": [replace(clusters.endpoint(3, "copy", "10.32.2.5"), mac=DATABASE.mac)],
    "a reservation": [clusters.reservation("db", "10.32.1.5", DATABASE)],
    "a reserved address elsewhere": [clusters.reservation("db", "10.32.9.9", DATABASE)],
    "an address of this host that is lost": [clusters.reservation("web", "10.32.0.5", DATABASE)],
    "a network without an uplink": [clusters.network()],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@BOTH
def test_what_was_there_before_makes_no_difference(topology: Topology, change: list[Record]) -> None:
    known = example(topology)
    change = [replace(each, topology=topology) if isinstance(each, Network) else each for each in change]
    changed = known.changed(Revision(2), change)
    before = Desired().of(known, SITE, [WEB])
    after = as_afresh(before, changed, WEB)
    as_afresh(after, known, WEB)
    gone = [RecordKey.of(record) for record in change if not isinstance(record, Network)]
    as_afresh(after, changed.changed(Revision(3), (), gone), WEB)


@BOTH
def test_endpoints_of_this_host_come_and_go(topology: Topology) -> None:
    known, state = example(topology), Desired()
    for local in ([], [WEB], [WEB, OTHER], [OTHER], []):
        state = as_afresh(state, known, *local)


def test_two_claims_end_with_one_of_those_who_make_them() -> None:
    known = example(Topology.SWITCHED)
    copy = replace(clusters.endpoint(3, "copy", "10.32.2.5"), mac=DATABASE.mac)
    both = as_afresh(Desired(), known.changed(Revision(2), [copy]), WEB)
    assert both.parts[BLUE].others.claims.contested == 1
    one = as_afresh(both, known.changed(Revision(3), [copy], [RecordKey.of(DATABASE)]), WEB)
    assert one.parts[BLUE].others.claims.contested == 0
    assert not as_afresh(one, known.changed(Revision(4), (), [RecordKey.of(DATABASE)]), WEB).state & {
        item for item in both.state if getattr(item, "mac", None) == DATABASE.mac
    }


@BOTH
def test_a_change_that_the_kernel_does_not_see_makes_nothing(topology: Topology) -> None:
    usual = example(topology)
    contested = usual.changed(Revision(2), [replace(SECOND, number=THIRD.number)])
    for known in (usual, contested):
        before = Desired().of(known, SITE, [WEB])
        deleting = replace(known.networks[BLUE], state=NetworkState.DELETING)
        after = as_afresh(before, known.changed(Revision(3), [deleting]), WEB)
        assert after.parts[BLUE].few is before.parts[BLUE].few
        assert all(state is before.spaces[ns] for ns, state in after.spaces.items())


@BOTH
def test_only_the_host_that_changed_is_made_again(topology: Topology) -> None:
    known = example(topology)
    start = Desired().of(known, SITE, [WEB])
    renamed = as_afresh(start, known.changed(Revision(2), [replace(SECOND, name="new")]), WEB)
    before, after = start.parts[BLUE], renamed.parts[BLUE]
    assert after.others.parts[SECOND.id] is not before.others.parts[SECOND.id]
    assert after.others.parts[THIRD.id] is before.others.parts[THIRD.id]
    assert after.own is before.own
    assert after.few is before.few
    assert after.state is before.state


@BOTH
def test_a_host_without_a_record_in_a_network_is_nothing_to_it(topology: Topology) -> None:
    known = example(topology)
    before = Desired().of(known, SITE, [WEB])
    after = as_afresh(before, known.changed(Revision(2), [clusters.host(4)]), WEB)
    assert after.parts[BLUE] is before.parts[BLUE]
    gone = [RecordKey.of(each) for each in (DATABASE, clusters.block(2, "10.32.1.0/24"))]
    without = as_afresh(before, known.changed(Revision(2), (), gone), WEB)
    assert set(without.parts[BLUE].others.parts) == {THIRD.id}


def test_a_reservation_that_gets_another_mac_leaves_the_host_of_its_holder_as_it_was() -> None:
    known = example(Topology.ROUTED)
    held = clusters.reservation("db", "10.32.9.9", DATABASE)
    before = Desired().of(known.changed(Revision(2), [held]), SITE, [])
    after = as_afresh(before, known.changed(Revision(3), [replace(held, mac=DATABASE.mac)]))
    assert after.parts[BLUE].others.parts[SECOND.id] is before.parts[BLUE].others.parts[SECOND.id]


def test_reserved_addresses_are_found_once_for_each_table_of_reservations() -> None:
    known = example(Topology.ROUTED).changed(Revision(2), [clusters.reservation("db", "10.32.9.9", DATABASE)])
    before = Desired().of(known, SITE, [])
    after = as_afresh(before, known.changed(Revision(3), [clusters.block(2, "10.32.9.0/24")]))
    assert after.parts[BLUE] is not before.parts[BLUE]
    assert after.parts[BLUE].inputs.reserved is before.parts[BLUE].inputs.reserved


def test_a_network_that_changes_leaves_another_one_as_it_was() -> None:
    green = clusters.network("green", cidr="10.64.0.0/16")
    known = example(Topology.ROUTED).changed(Revision(2), [green, clusters.block(1, "10.64.0.0/24", "green")])
    before = Desired().of(known, SITE, [])
    after = as_afresh(before, known.changed(Revision(3), [clusters.block(2, "10.64.1.0/24", "green")]))
    assert after.parts[BLUE] is before.parts[BLUE]
    assert after.parts[GREEN] is not before.parts[GREEN]
    assert after.membership.blocks[GREEN] is not before.membership.blocks[GREEN]


def test_a_container_may_have_what_is_no_hosts_own_address_without_an_uplink() -> None:
    claimed = clusters.endpoint(2, "web", "10.32.2.0")
    for uplink, contested in ((Uplink.HOST, 1), (Uplink.NONE, 0)):
        known = example(Topology.SWITCHED, uplink).changed(Revision(2), [claimed])
        assert Desired().of(known, SITE, []).parts[BLUE].others.claims.contested == contested


def test_the_membership_of_another_host_is_its_own() -> None:
    known = example(Topology.ROUTED)
    for host in (SECOND.id, THIRD.id):
        assert Membership().of(known, clusters.HERE).of(known, host) == Membership().of(known, host)


def test_a_route_or_a_lifeline_that_comes_up_takes_host_access_away() -> None:
    known = example(Topology.ROUTED, Uplink.AUTO)
    before = Desired().of(known, SITE, [])
    assert before.choice.kinds == {BLUE: Uplink.HOST}
    for site in (
        replace(SITE, foreign_routes=frozenset({ip_network("10.32.7.0/24")})),
        replace(SITE, lifelines=frozenset({Lifeline(ip_address("10.32.7.7"), "a gateway")})),
    ):
        after = as_afresh(before, known, site=site)
        assert after.choice.kinds == {BLUE: Uplink.ISOLATED}
        assert as_afresh(after, known).choice.kinds == {BLUE: Uplink.HOST}


def test_hosts_that_came_while_this_one_was_in_no_network_are_known_when_it_joins_one() -> None:
    known = example(Topology.ROUTED)
    mine = clusters.block(1, "10.32.0.0/24")
    outside = known.changed(Revision(2), (), [RecordKey.of(mine)])
    more = outside.changed(Revision(3), [clusters.host(4)])
    first = as_afresh(Desired(), outside)
    second = as_afresh(first, more)
    assert second.spaces[HOST] is first.spaces[HOST], "in no network there is nothing to keep other hosts from"
    third = as_afresh(second, more, site=replace(SITE, ways_out=frozenset({InterfaceName("eth0")})))
    assert third.host_side.vxlan_table is first.host_side.vxlan_table
    for state in (second, third):
        as_afresh(state, more.changed(Revision(4), [mine]))


def test_a_fact_that_concerns_no_network_leaves_the_hosts_own_namespace_as_it_was() -> None:
    known = example(Topology.ROUTED, Uplink.NONE)
    before = Desired().of(known, SITE, [])
    after = as_afresh(before, known, site=replace(SITE, ways_out=frozenset({InterfaceName("eth0")})))
    assert after.spaces[HOST] is before.spaces[HOST]


def test_the_list_of_tunnel_ends_is_made_once_for_the_same_hosts_and_networks() -> None:
    known = example(Topology.ROUTED)
    before = Desired().of(known, SITE, [])
    (table,) = before.host_side.vxlan_table
    assert isinstance(table, NftTable)
    assert table.name == VXLAN_TABLE
    state = before
    for name in ("eth0", "eth1"):
        state = as_afresh(state, known, site=replace(SITE, ways_out=frozenset({InterfaceName(name)})))
        assert state.host_side.vxlan_table is before.host_side.vxlan_table
