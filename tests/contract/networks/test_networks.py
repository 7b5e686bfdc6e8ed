"""Whole networks on both kernels: first start, restart, drift, changes, foreign entries, failures."""

import errno
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from overlayd.dataplane import ownership
from overlayd.dataplane.desired.endpoint import host_end
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import (
    HOST,
    Address,
    Bridge,
    Item,
    Link,
    Namespace,
    NamespaceRef,
    Neighbour,
    Route,
    State,
    Veth,
    network_namespace,
)
from overlayd.dataplane.plan import Add, Delete, Plan
from overlayd.model.cluster import Cluster, Record, RecordKey
from overlayd.model.endpoint import Endpoint
from overlayd.model.host import Host
from overlayd.model.ids import InterfaceName, NetworkName
from overlayd.model.network import Topology
from tests.support.controllers.clusters import HERE, block, dual, endpoint, network, reservation, site
from tests.support.kernel.worlds import UNDERLAY, World, enforce, observed

LOCAL = endpoint(1, "web", "10.32.0.5,fd00:32::5")
REMOTE = (endpoint(2, "db", "10.32.1.5,fd00:32:0:1::5"), endpoint(3, "cache", "10.32.2.5"))
BLUE = network_namespace(NetworkName("blue"))

TOPOLOGIES = pytest.mark.parametrize("topology", list(Topology))


def known(topology: Topology, *more: Record) -> Cluster:
    """Return three hosts in network `blue`, with this one at the address of the simulated host."""
    made = dual(topology, LOCAL, *REMOTE)
    return changed(made, replace(made.hosts[HERE], address=UNDERLAY.ip), *more)


def changed(cluster: Cluster, *puts: Record, without: Iterable[RecordKey] = ()) -> Cluster:
    return cluster.changed(cluster.revision, puts, without)


def desired(cluster: Cluster, *endpoints: Endpoint, mtu: int = 1500) -> State:
    return resolve(cluster, site(mtu), endpoints)


def started(world: World, topology: Topology) -> Cluster:
    world.add_sandbox(LOCAL.sandbox)
    cluster = known(topology)
    enforce(world, desired(cluster, LOCAL))
    return cluster


@TOPOLOGIES
def test_a_new_agent_finds_everything_as_it_should_be(world: World, topology: Topology) -> None:
    cluster = started(world, topology)
    world.restart_agent()
    assert not diff(desired(cluster, LOCAL), observed(world))


@TOPOLOGIES
def test_whatever_is_removed_by_hand_comes_back(world: World, topology: Topology) -> None:
    wanted = desired(started(world, topology), LOCAL)
    for item in sorted((item for item in wanted if ownership.owns(item)), key=lambda item: repr(item.key)):
        assert world.remove_by_hand(item)
        # The name of a namespace that lives on is put back before anything is planned.
        assert enforce(world, wanted) or isinstance(item, Namespace), f"nothing was planned when this was gone: {item}"


@TOPOLOGIES
@pytest.mark.parametrize("mtu", [1400, 9000])
def test_another_underlay_mtu_changes_every_device(world: World, topology: Topology, mtu: int) -> None:
    cluster = started(world, topology)
    enforce(world, desired(cluster, LOCAL, mtu=mtu))
    links = [item for item in observed(world) if isinstance(item, Link) and item.name != ownership.LOOPBACK]
    assert {link.mtu for link in links} == {mtu - 50}
    inside = Link(NamespaceRef(LOCAL.sandbox), LOCAL.interface, Veth(), LOCAL.mac, mtu - 50)
    assert world.kernel.missing(frozenset({inside})) == frozenset()


@TOPOLOGIES
def test_another_address_of_a_remote_host_is_followed(world: World, topology: Topology) -> None:
    cluster = started(world, topology)
    moved = Host(REMOTE[0].host, cluster.hosts[REMOTE[0].host].number, "moved", IPv4Address("192.0.2.200"))
    plan = enforce(world, desired(changed(cluster, moved), LOCAL))
    assert not any(isinstance(op.item, Link) for op in plan)


@TOPOLOGIES
def test_another_vni_replaces_the_device_and_keeps_the_containers_veth(world: World, topology: Topology) -> None:
    cluster = started(world, topology)
    other = replace(cluster.networks[LOCAL.network], vni=network("red").vni)
    plan = enforce(world, desired(changed(cluster, other), LOCAL))
    assert {op.item.name for op in plan if isinstance(op.item, Link)} == {ownership.VXLAN}


@TOPOLOGIES
def test_an_endpoint_that_loses_its_addresses_is_cut_off_and_gets_them_back(world: World, topology: Topology) -> None:
    cluster = started(world, topology)
    held, lost = (reservation("db", "10.32.0.5,fd00:32::5", holder) for holder in (LOCAL, REMOTE[0]))
    assert not diff(desired(changed(cluster, held), LOCAL), observed(world)), "to hold a reservation changes nothing"
    enforce(world, desired(changed(cluster, lost), LOCAL))
    (end,) = (item for item in observed(world) if isinstance(item, Link) and item.name == host_end(LOCAL.key))
    assert not end.up
    enforce(world, desired(changed(cluster, held), LOCAL))


def test_an_endpoint_that_moves_between_hosts_is_followed(world: World) -> None:
    cluster = started(world, Topology.SWITCHED)
    moved = replace(REMOTE[0], host=REMOTE[1].host)
    plan = enforce(world, desired(changed(cluster, moved, without=[RecordKey.of(REMOTE[0])]), LOCAL))
    assert len(plan) == 1, "one FDB entry points elsewhere"


def test_an_endpoint_that_comes_to_this_host_is_followed(world: World) -> None:
    cluster = started(world, Topology.SWITCHED)
    world.add_sandbox(REMOTE[0].sandbox)
    here = replace(REMOTE[0], host=HERE)
    enforce(world, desired(changed(cluster, here, without=[RecordKey.of(REMOTE[0])]), LOCAL, here))


@TOPOLOGIES
def test_a_network_that_goes_takes_everything_along_and_another_one_stays(world: World, topology: Topology) -> None:
    cluster = started(world, topology)
    green = network("green", topology, "10.64.0.0/16")
    both = changed(cluster, green, block(1, "10.64.0.0/24", "green"), block(2, "10.64.1.0/24", "green"))
    enforce(world, desired(both, LOCAL))
    blue = RecordKey.of(cluster.networks[NetworkName("blue")])
    enforce(world, desired(changed(both, without=[blue])))
    assert world.kernel.namespaces() == {network_namespace(NetworkName("green"))}


def test_foreign_entries_stay(world: World) -> None:
    started(world, Topology.ROUTED)
    foreign: list[Item] = [
        Link(BLUE, InterfaceName("foreign0"), Bridge(), LOCAL.mac, 1450),
        Address(BLUE, InterfaceName("foreign0"), IPv4Interface("198.51.100.1/32")),
        Route(BLUE, IPv4Network("203.0.113.0/24"), InterfaceName("foreign0"), None, 0),
        Neighbour(BLUE, ownership.VXLAN, IPv4Address("198.51.100.9"), LOCAL.mac),
    ]
    for item in foreign:
        world.add_by_hand(item)
    enforce(world, desired(known(Topology.ROUTED)))
    enforce(world, desired(known(Topology.ROUTED), mtu=9000))
    assert [item for item in reversed(foreign) if not world.remove_by_hand(item)] == []


def test_one_bad_operation_among_a_hundred_fails_alone(world: World) -> None:
    started(world, Topology.ROUTED)
    routes = [Route(BLUE, IPv4Network((0x0A400000 + n * 256, 24)), ownership.VXLAN, None, n + 1) for n in range(100)]
    routes[50] = replace(routes[50], dev=InterfaceName("missing0"))
    outcomes = world.kernel.apply(Plan(tuple(Add(route) for route in routes)))
    assert [n for n, outcome in enumerate(outcomes) if not outcome.done] == [50]
    assert outcomes[50].error is not None
    assert outcomes[50].error.errno == errno.ENODEV


def test_a_taken_vni_stops_its_network_and_no_other(world: World) -> None:
    started(world, Topology.ROUTED)
    green = replace(network("green", cidr="10.64.0.0/16"), vni=network("blue").vni)
    red = network("red", cidr="10.65.0.0/16")
    held = [
        block(number, f"10.{second}.{number}.0/24", name)
        for name, second in (("green", 64), ("red", 65))
        for number in (1, 2)
    ]
    plan = diff(desired(known(Topology.ROUTED, green, red, *held), LOCAL), observed(world))
    outcomes = world.kernel.apply(plan)
    failed = [outcome for outcome in outcomes if not outcome.done]
    assert {outcome.op.item.ns for outcome in failed} == {network_namespace(green.name)}
    (refused,) = (outcome for outcome in failed if outcome.error)
    assert isinstance(refused.op.item, Link)
    assert refused.op.item.name == ownership.VXLAN
    assert refused.error is not None
    assert refused.error.errno == errno.EEXIST
    assert all(outcome.skipped for outcome in failed if outcome is not refused)


def test_a_failed_namespace_stops_what_would_be_in_it(world: World) -> None:
    items = desired(known(Topology.ROUTED))
    namespace = next(item for item in items if isinstance(item, Namespace))
    world.kernel.apply(Plan((Add(namespace),)))
    outcomes = world.kernel.apply(diff(items, frozenset()))
    assert [outcome.error.errno for outcome in outcomes if outcome.error] == [errno.EEXIST]
    assert all(outcome.skipped for outcome in outcomes if not outcome.error and outcome.op.item.ns != HOST)


def test_deleting_what_is_gone_is_no_failure(world: World) -> None:
    wanted = [item for item in desired(started(world, Topology.SWITCHED), LOCAL) if ownership.owns(item)]
    kept = {(Namespace, BLUE), (Link, BLUE, ownership.LOOPBACK)}
    gone = sorted((item for item in wanted if item.key not in kept), key=lambda item: not isinstance(item, Link))
    for _ in range(2):
        outcomes = world.kernel.apply(Plan(tuple(Delete(item) for item in gone)))
        assert [outcome for outcome in outcomes if not outcome.done] == []
