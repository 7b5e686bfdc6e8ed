"""A veth pair that is taken out of use frees its names and addresses at once, and is deleted later."""

from dataclasses import replace

import pytest

from overlayd.dataplane import ownership
from overlayd.dataplane.desired.endpoint import host_end, resolve_endpoint
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.diff import diff, retirement
from overlayd.dataplane.items import Item, Link, NamespaceRef, State, Veth, VethPeer, network_namespace
from overlayd.dataplane.plan import Plan, Retire
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import InterfaceName, MacAddress, NetworkName
from overlayd.model.network import Topology
from tests.support.controllers.clusters import HERE, endpoint, example, site
from tests.support.kernel.worlds import UNDERLAY, World, enforce, observed

BLUE = network_namespace(NetworkName("blue"))
WEB, OTHER = endpoint(1, "web", "10.32.0.5"), endpoint(1, "other", "10.32.0.6")
SANDBOX = NamespaceRef(WEB.sandbox)

TOPOLOGIES = pytest.mark.parametrize("topology", list(Topology))


def network_in_force(world: World, topology: Topology) -> State:
    """Bring the network of the example into force, without endpoints of this host."""
    known = example(topology)
    me = replace(known.hosts[HERE], address=UNDERLAY.ip)
    enforce(world, resolve(known.changed(known.revision, [me]), site(), []))
    return observed(world)


def items_of(topology: Topology, one: Endpoint) -> State:
    return resolve_endpoint(example(topology).networks[one.network], one, site().mtu)


def attach(world: World, topology: Topology, one: Endpoint) -> State:
    """Attach an endpoint; return what of it is in the network's namespace."""
    items = items_of(topology, one)
    perform(world, diff(items, frozenset()))
    return frozenset(item for item in items if ownership.owns(item))


def perform(world: World, plan: Plan) -> None:
    assert [outcome for outcome in world.kernel.apply(plan) if not outcome.done] == []


def retired(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith(ownership.RETIRED_PREFIX)}


@TOPOLOGIES
def test_nothing_of_a_retired_endpoint_is_left_in_its_place(world: World, topology: Topology) -> None:
    before = network_in_force(world, topology)
    world.add_sandbox(SANDBOX)
    perform(world, retirement(attach(world, topology, WEB)))

    assert observed(world) == before
    assert host_end(WEB.key) not in world.devices(BLUE)
    assert WEB.interface not in world.devices(SANDBOX)
    assert len(retired(world.devices(BLUE))) == len(retired(world.devices(SANDBOX))) == 1


@TOPOLOGIES
def test_the_same_endpoint_can_be_attached_again_before_the_old_pair_is_deleted(
    world: World, topology: Topology
) -> None:
    network_in_force(world, topology)
    world.add_sandbox(SANDBOX)
    for _ in range(3):
        perform(world, retirement(attach(world, topology, WEB)))
    there = attach(world, topology, WEB)
    world.kernel.reap({BLUE})

    assert there <= observed(world)
    assert world.kernel.missing(items_of(topology, WEB)) == frozenset()
    assert not retired(world.devices(BLUE) | world.devices(SANDBOX))


@TOPOLOGIES
def test_reaping_deletes_what_is_retired_and_nothing_else(world: World, topology: Topology) -> None:
    network_in_force(world, topology)
    for one in (WEB, OTHER):
        world.add_sandbox(one.sandbox)
    there, gone = attach(world, topology, OTHER), attach(world, topology, WEB)
    peer = VethPeer(NamespaceRef(OTHER.sandbox), InterfaceName("mine1"), mac(1))
    foreign = Link(BLUE, InterfaceName("mine"), Veth(peer), mac(2), 1450)
    world.add_by_hand(foreign)
    assert world.kernel.leftovers() == frozenset()
    perform(world, retirement(gone))
    world.restart_agent()
    assert world.kernel.leftovers() == {BLUE}
    world.kernel.reap(world.kernel.leftovers())

    assert there <= observed(world)
    assert "mine" in world.devices(BLUE)
    assert not retired(world.devices(BLUE))
    assert world.devices(SANDBOX) == {"lo"}


def mac(number: int) -> MacAddress:
    return MacAddress(f"02:00:00:00:01:{number:02x}")


def test_where_nothing_is_retired_there_is_nothing_to_reap(world: World) -> None:
    before = network_in_force(world, Topology.ROUTED)
    world.kernel.reap({BLUE, network_namespace(NetworkName("unheard-of"))})
    assert observed(world) == before


@TOPOLOGIES
def test_whatever_of_an_endpoint_is_gone_already_is_no_failure(world: World, topology: Topology) -> None:
    before = network_in_force(world, topology)
    perform(world, retirement(frozenset(item for item in items_of(topology, WEB) if ownership.owns(item))))
    world.add_sandbox(SANDBOX)
    owned = attach(world, topology, WEB)
    assert world.remove_by_hand(next(item for item in owned if isinstance(item, Link)))
    perform(world, retirement(owned))
    assert observed(world) == before


def test_a_sandbox_that_is_somebody_elses_by_now_is_left_alone(world: World) -> None:
    network_in_force(world, Topology.ROUTED)
    for one in (WEB, OTHER):
        world.add_sandbox(one.sandbox)
    attach(world, Topology.ROUTED, OTHER)
    (link,) = (item for item in attach(world, Topology.ROUTED, WEB) if isinstance(item, Link))
    perform(world, Plan((Retire(without_far_end(link)),)))
    assert "eth0" in world.devices(SANDBOX)
    perform(world, Plan((Retire(elsewhere(link, NamespaceRef("/run/netns/gone"))),)))
    world.kernel.reap({BLUE})
    assert world.devices(SANDBOX) == {"lo"}
    assert world.devices(NamespaceRef(OTHER.sandbox)) == {"lo", "eth0"}


def without_far_end(link: Link) -> Link:
    return replace(link, kind=Veth())


def elsewhere(link: Link, ns: NamespaceRef) -> Link:
    return replace(link, kind=Veth(VethPeer(ns, InterfaceName("eth0"), mac(3))))


@TOPOLOGIES
def test_many_are_retired_and_reaped_together(world: World, topology: Topology) -> None:
    before = network_in_force(world, topology)
    owned: set[Item] = set()
    for number in range(40):
        one = endpoint(1, f"c{number}", f"10.32.0.{100 + number}")
        world.add_sandbox(one.sandbox)
        owned |= attach(world, topology, one)
    perform(world, retirement(frozenset(owned)))
    assert observed(world) == before
    world.kernel.reap({BLUE})
    assert not retired(world.devices(BLUE))
