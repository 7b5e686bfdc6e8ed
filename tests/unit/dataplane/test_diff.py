"""The order of a plan: the rules that `diff` promises, one by one."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from overlayd.dataplane import ownership
from overlayd.dataplane.desired.endpoint import host_end
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.desired.uplink import host_device
from overlayd.dataplane.diff import diff, restoration, retain, retirement
from overlayd.dataplane.items import (
    FLOOD,
    HOST,
    Address,
    BridgeEntry,
    DeviceSysctls,
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
    SourceGuard,
    State,
    Sysctl,
    Vxlan,
    network_namespace,
)
from overlayd.dataplane.plan import Add, Change, Delete, Plan, Retire
from overlayd.model.cluster import Cluster, RecordKey
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import InterfaceName, NetworkName, Revision
from overlayd.model.network import Network, Topology, Uplink
from tests.support.controllers import clusters

WEB = clusters.endpoint(1, "web", "10.32.0.5")
NS = network_namespace(NetworkName("blue"))
ROUTED = clusters.example(Topology.ROUTED)
SWITCHED = clusters.example(Topology.SWITCHED, clusters.endpoint(2, "db", "10.32.1.2"))
BOTH = pytest.mark.parametrize("known", [ROUTED, SWITCHED], ids=["routed", "switched"])


def desired(known: Cluster, *local: Endpoint) -> State:
    return resolve(known, clusters.site(), local)


def observed(state: State) -> State:
    return frozenset(item for item in state if ownership.owns(item))


def one(state: State, kind: type[Item], **fields: object) -> Item:
    """Return the only item of this kind with these fields."""
    found = [item for item in state if isinstance(item, kind)]
    found = [item for item in found if all(getattr(item, name) == value for name, value in fields.items())]
    assert len(found) == 1, found
    return found[0]


def link(state: State, name: str) -> Link:
    found = one(state, Link, ns=NS, name=name)
    assert isinstance(found, Link)
    return found


@BOTH
def test_equal_states_need_no_plan(known: Cluster) -> None:
    plan = diff(desired(known), observed(desired(known)))
    assert not plan
    assert (len(plan), list(plan), str(plan)) == (0, [], "")


@BOTH
def test_a_first_start_adds_every_item_once(known: Cluster) -> None:
    plan = diff(desired(known), frozenset())
    assert all(isinstance(op, Add) for op in plan)
    assert frozenset(op.item for op in plan) == desired(known)
    assert len(plan) == len(desired(known))


@BOTH
def test_additions_go_from_the_namespace_to_the_routes(known: Cluster) -> None:
    order = {Namespace: 0, Link: 1, Address: 2, Neighbour: 3, FdbEntry: 3, BridgeEntry: 3, Route: 4, NftTable: 5}
    ranks = [order[type(op.item)] for op in diff(desired(known), frozenset())]
    assert ranks == sorted(ranks)
    assert {0, 1, 3} <= set(ranks)


def test_a_bridge_comes_before_its_ports() -> None:
    names = [op.item.name for op in diff(desired(SWITCHED), frozenset()) if isinstance(op.item, Link)]
    assert names == ["lo", "br0", "vx0"]


def test_deletions_go_from_the_route_to_what_it_needs() -> None:
    gone = [RecordKey.of(record) for record in (clusters.host(3), clusters.block(3, "10.32.2.0/24"))]
    plan = diff(desired(ROUTED.changed(Revision(2), deletes=gone)), observed(desired(ROUTED)))
    gone_with_it = [(Delete, Route), (Delete, Neighbour), (Delete, FdbEntry)]
    assert [(type(op), type(op.item)) for op in plan] == [(Change, NftTable), *gone_with_it]


@BOTH
def test_a_namespace_that_goes_takes_everything_with_it(known: Cluster) -> None:
    before = observed(desired(known, clusters.endpoint(1, "web", "10.32.0.2")))
    assert diff(frozenset(), before) == Plan((Delete(one(before, Namespace)), Delete(one(before, NftTable))))


def test_a_link_that_goes_takes_what_hangs_on_it() -> None:
    web = clusters.endpoint(1, "web", "10.32.0.2")
    plan = diff(desired(ROUTED), observed(desired(ROUTED, web)))
    assert [(type(op), type(op.item)) for op in plan] == [(Delete, Link)]


def test_a_port_that_goes_leaves_what_hangs_on_the_bridge() -> None:
    web = clusters.endpoint(1, "web", "10.32.0.2")
    plan = diff(desired(SWITCHED), observed(desired(SWITCHED, web)))
    assert [(type(op), type(op.item)) for op in plan] == [(Delete, Link), (Delete, Neighbour)]


@BOTH
def test_a_link_that_cannot_be_changed_is_made_anew_with_what_hung_on_it(known: Cluster) -> None:
    before = observed(desired(known))
    vxlan = link(before, "vx0")
    assert isinstance(vxlan.kind, Vxlan)
    wrong = replace(vxlan, kind=replace(vxlan.kind, port=8472))
    plan = diff(desired(known), before - {vxlan} | {wrong})
    assert list(plan)[:2] == [Delete(wrong), Add(vxlan)]
    hung = {item for item in before if getattr(item, "dev", None) == "vx0"}
    assert {op.item for op in list(plan)[2:]} == hung
    assert all(isinstance(op, Add) for op in list(plan)[2:])


def test_devices_go_in_the_reverse_of_the_order_in_which_they_come() -> None:
    before = observed(desired(SWITCHED, WEB))
    devices = [host_end(WEB.key), ownership.VXLAN, ownership.BRIDGE]
    left = frozenset(item for item in before if isinstance(item, Namespace | NftTable))
    plan = diff(left, left | {link(before, name) for name in devices})
    assert list(plan) == [Delete(link(before, name)) for name in devices]


def test_an_uplink_that_is_replaced_gets_its_own_sysctls_again() -> None:
    """They go with the device. Those of the host and of its other devices do not."""
    blue = replace(clusters.network(), uplink=Uplink.HOST)
    wanted = desired(ROUTED.changed(Revision(2), [blue]))
    before = observed(wanted)
    end = next(item for item in before if isinstance(item, Link) and item.name == host_device(blue.vni))
    elsewhere = Sysctl(HOST, ownership.forwarding_sysctl(InterfaceName("eth0")), "1")
    foreign = replace(end, kind=Other("dummy"))
    plan = diff(wanted | {elsewhere}, before - {end} | {foreign, elsewhere})
    again = {op.item.name for op in plan if isinstance(op.item, Sysctl)}
    assert again == {ownership.forwarding_sysctl(end.name)}


def test_a_foreign_device_with_our_name_is_replaced() -> None:
    before = observed(desired(SWITCHED))
    bridge = link(before, "br0")
    foreign = replace(bridge, kind=Other("dummy"))
    # Nothing can be on a dummy: neither ports nor neighbours of ours were observed.
    there = frozenset(item for item in before if isinstance(item, Namespace) or getattr(item, "name", "") == "lo")
    plan = diff(desired(SWITCHED), there | {foreign})
    assert list(plan)[:2] == [Delete(foreign), Add(bridge)]
    assert {op.item for op in list(plan)[1:]} == before - there


@BOTH
def test_a_link_with_another_mtu_is_changed_in_place(known: Cluster) -> None:
    before = observed(desired(known))
    vxlan = link(before, "vx0")
    wrong = replace(vxlan, mtu=1400)
    assert diff(desired(known), before - {vxlan} | {wrong}) == Plan((Change(vxlan, wrong),))


def test_a_block_that_moves_is_routed_at_every_moment() -> None:
    moved = ROUTED.changed(Revision(2), [clusters.block(3, "10.32.1.0/24")])
    plan = diff(desired(moved), observed(desired(ROUTED)))
    routes = [(type(op), op.item.via) for op in plan if isinstance(op.item, Route)]
    assert routes == [(Add, IPv4Address("169.254.2.3")), (Delete, IPv4Address("169.254.2.2"))]


def test_a_route_comes_after_its_neighbour_and_fdb_entry_and_goes_before_them() -> None:
    block = [RecordKey.of(clusters.block(2, "10.32.1.0/24"))]
    without = ROUTED.changed(Revision(2), deletes=block)
    there = [type(op.item) for op in diff(desired(ROUTED), observed(desired(without)))]
    gone = [type(op.item) for op in diff(desired(without), observed(desired(ROUTED)))]
    assert (set(there[:-1]), there[-1]) == ({Neighbour, FdbEntry}, Route)
    assert (gone[0], set(gone[1:])) == (Route, {Neighbour, FdbEntry})


def test_flood_entries_stand_beside_each_other() -> None:
    plan = diff(desired(SWITCHED), frozenset())
    flood = {op.item.dst for op in plan if isinstance(op.item, FdbEntry) and op.item.mac == FLOOD}
    assert flood == {IPv4Address("192.0.2.2"), IPv4Address("192.0.2.3")}


def test_an_entry_that_points_elsewhere_is_changed() -> None:
    before = observed(desired(SWITCHED))
    entry = one(before, BridgeEntry, dev=ownership.VXLAN)
    assert isinstance(entry, BridgeEntry)
    wrong = replace(entry, dev=ownership.BRIDGE)
    assert diff(desired(SWITCHED), before - {entry} | {wrong}) == Plan((Change(entry, wrong),))


def test_what_is_not_wanted_goes() -> None:
    stray = Route(NS, IPv4Network("10.99.0.0/24"), ownership.VXLAN, IPv4Address("169.254.2.9"), 9)
    assert diff(desired(ROUTED), observed(desired(ROUTED)) | {stray}) == Plan((Delete(stray),))


def test_before_the_feed_is_in_sync_nothing_is_deleted() -> None:
    there = observed(desired(ROUTED, clusters.endpoint(1, "web", "10.32.0.2")))
    assert not diff(retain(frozenset(), there), there)


def test_before_the_feed_is_in_sync_things_are_added_and_changed() -> None:
    before, after = observed(desired(ROUTED)), desired(ROUTED.changed(Revision(2), [clusters.host(2, "198.51.100.2")]))
    extra = Neighbour(NS, ownership.VXLAN, IPv4Address("169.254.2.9"), ownership.GATEWAY_MAC)
    missing = one(before, Route, metric=3)
    plan = diff(retain(after, before - {missing} | {extra}), before - {missing} | {extra})
    assert [type(op) for op in plan] == [Change, Add]
    assert [type(op.item) for op in plan] == [FdbEntry, Route]
    vteps, wanted_vteps = one(before, NftTable), one(after, NftTable)
    assert retain(after, before - {missing} | {extra}) == after - {wanted_vteps} | {vteps, extra}


def test_the_list_of_known_vteps_is_made_before_the_feed_is_in_sync_and_does_not_shrink() -> None:
    without = desired(ROUTED.changed(Revision(2), deletes=[RecordKey.of(clusters.host(3))]))
    assert one(retain(without, frozenset()), NftTable) == one(without, NftTable)
    assert one(retain(without, observed(desired(ROUTED))), NftTable) == one(desired(ROUTED), NftTable)


def test_rules_of_networks_that_nobody_here_knows_stay_as_they_are() -> None:
    rules = NftTable(HOST, NftFamily.INET, ownership.TABLE, "of networks in use")
    others = replace(rules, text="of those that are known")
    both = (ownership.VXLAN_TABLE, ownership.TABLE)
    assert retain(frozenset({others}), frozenset({rules}), both) == {rules}
    assert retain(frozenset({others}), frozenset({rules})) == {others}


@BOTH
def test_what_a_workload_changed_in_its_sandbox_stays_and_what_the_kernel_removed_comes_back(known: Cluster) -> None:
    known = known.changed(Revision(2), [replace(one_network(known), uplink=Uplink.HOST)])
    inside = {item for item in desired(known, WEB) if item.ns == WEB.sandbox}
    (device,) = (item for item in inside if isinstance(item, Link) and item.name == WEB.interface)
    plan = restoration(frozenset(inside))
    kinds = [type(op.item) for op in plan]
    assert {op.item for op in plan} == inside - {device}
    assert all(isinstance(op, Add) for op in plan)
    assert kinds == sorted(kinds, key=[Link, Address, Neighbour, Route].index)
    settings = DeviceSysctls(NamespaceRef(WEB.sandbox), WEB.interface, frozenset({("accept_ra", "0")}))
    assert not restoration(frozenset({settings}))


def one_network(known: Cluster) -> Network:
    (found,) = known.networks.values()
    return found


def test_an_endpoint_of_a_switched_network_goes_with_its_entries_on_the_bridge() -> None:
    """They would stay behind: the filter and the entries on the device itself go with it."""
    before = observed(desired(SWITCHED))
    ours = observed(desired(SWITCHED, WEB)) - before
    device = link(ours, host_end(WEB.key))
    assert [item for item in ours if isinstance(item, SourceGuard)]
    entry, neighbour = one(ours, BridgeEntry), one(ours, Neighbour)
    assert retirement(ours) == Plan((Delete(neighbour), Delete(entry), Retire(device)))


def test_an_endpoint_of_a_routed_network_goes_with_its_device_alone() -> None:
    ours = observed(desired(ROUTED, WEB)) - observed(desired(ROUTED))
    assert len(ours) == 3
    assert retirement(ours) == Plan((Retire(link(ours, host_end(WEB.key))),))


@BOTH
def test_an_alias_that_is_missing_is_written_and_nothing_in_the_sandbox_is_touched(known: Cluster) -> None:
    wanted = desired(known, WEB)
    device = link(wanted, host_end(WEB.key))
    blank = replace(device, alias="")
    assert diff(wanted, observed(wanted) - {device} | {blank}) == Plan((Change(device, blank),))
