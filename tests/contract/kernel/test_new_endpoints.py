"""Endpoints made together: each has what a plan of its own makes, and one that cannot be made fails no other."""

import errno
from collections.abc import Sequence
from dataclasses import replace

import pytest

from overlayd.dataplane.desired.endpoint import host_end
from overlayd.dataplane.desired.new_endpoint import NewEndpoint
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.items import Link, NamespaceRef, RateLimit, State, Veth, network_namespace
from overlayd.model.bandwidth import UNLIMITED, Bandwidth, Rate
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import InterfaceName
from overlayd.model.network import Network, Topology, Uplink
from tests.support.controllers.clusters import HERE, block, dual, endpoint, network, site
from tests.support.kernel.worlds import UNDERLAY, World, enforce, observed, owned, reports_change

MTU = site().mtu
LIMITS = Bandwidth(Rate(100_000_000, 8_000_000), Rate(50_000_000, 4_000_000))


def network_of(topology: Topology, uplink: Uplink = Uplink.NONE) -> tuple[Cluster, Network]:
    known = dual(topology)
    me = replace(known.hosts[HERE], address=UNDERLAY.ip)
    (before,) = known.networks.values()
    network = replace(before, uplink=uplink)
    return known.changed(known.revision, [me, network]), network


def containers(world: World, addresses: Sequence[str]) -> list[Endpoint]:
    found = [endpoint(1, f"c{number}", each) for number, each in enumerate(addresses)]
    for each in found:
        world.add_sandbox(each.sandbox)
    return found


@pytest.mark.parametrize("topology", list(Topology))
@pytest.mark.parametrize("uplink", [Uplink.NONE, Uplink.ISOLATED])
@pytest.mark.parametrize("bandwidth", [UNLIMITED, LIMITS], ids=["unlimited", "limited"])
def test_they_have_what_plans_of_their_own_make(
    world: World, topology: Topology, uplink: Uplink, bandwidth: Bandwidth
) -> None:
    known, network = network_of(topology, uplink)
    enforce(world, resolve(known, site(), []))
    ns = network_namespace(network.name)
    made = containers(world, ["10.32.0.5", "fd00:32::6", "10.32.0.7,fd00:32::7", "10.32.0.8"])
    wanted = [NewEndpoint(network, each, MTU, bandwidth) for each in made]
    assert ns not in world.kernel.changed()

    assert world.kernel.attach(wanted) == (None, None, None, None)

    items = State().union(*(each.items for each in wanted))
    assert sum(isinstance(item, RateLimit) for item in items) == (2 * len(made) if bandwidth is LIMITS else 0)
    assert world.kernel.missing(items) == State()
    assert ns not in world.kernel.changed(), "what this agent does itself is no news"
    assert owned(resolve(known, site(), made)) <= observed(world), "the cycle has nothing to add"


@pytest.mark.parametrize("topology", list(Topology))
def test_one_that_cannot_be_made_fails_no_other(world: World, topology: Topology) -> None:
    known, network = network_of(topology)
    enforce(world, resolve(known, site(), []))
    first, taken, missing, last = containers(world, ["10.32.0.5", "10.32.0.6", "10.32.0.7", "10.32.0.8"])
    world.remove_sandbox(missing.sandbox)
    inside = InterfaceName("eth0")
    occupant = replace(taken, container_id=endpoint(1, "occupant", "10.32.0.9").container_id)
    assert world.kernel.attach([NewEndpoint(network, occupant, MTU)]) == (None,)

    wanted = [NewEndpoint(network, each, MTU) for each in (first, taken, missing, last)]
    results = world.kernel.attach(wanted)

    assert [outcome is None for outcome in results] == [True, False, False, True]
    refused = [outcome for outcome in results if outcome]
    assert all(isinstance(outcome.op.item, Link) and isinstance(outcome.op.item.kind, Veth) for outcome in refused)
    assert [outcome.error and outcome.error.errno for outcome in refused] == [errno.EEXIST, errno.ENOENT]
    for each in (wanted[0], wanted[3], NewEndpoint(network, occupant, MTU)):
        assert world.kernel.missing(each.items) == State()
    assert host_end(taken.key) not in world.devices(network_namespace(network.name))
    assert world.kernel.link(NamespaceRef(taken.sandbox), inside) is not None


def test_a_network_whose_name_cannot_be_read_fails_no_endpoint_of_another(world: World) -> None:
    known, blue = network_of(Topology.ROUTED)
    green = network("green", cidr="10.64.0.0/16")
    both = known.changed(known.revision, [green, block(1, "10.64.0.0/24", "green")])
    enforce(world, resolve(both, site(), []))
    here = containers(world, ["10.32.0.5", "10.32.0.6"])
    there = endpoint(1, "there", "10.64.0.5", "green")
    world.add_sandbox(there.sandbox)
    world.obstruct(network_namespace(green.name))

    wanted = [NewEndpoint(blue, here[0], MTU), NewEndpoint(green, there, MTU), NewEndpoint(blue, here[1], MTU)]
    first, refused, last = world.kernel.attach(wanted)

    assert (first, last) == (None, None)
    assert refused
    assert refused.error
    assert refused.error.errno == errno.EACCES
    assert world.devices(NamespaceRef(there.sandbox)) == {"lo"}


def test_more_than_are_made_at_once_are_made(world: World) -> None:
    known, network = network_of(Topology.ROUTED)
    enforce(world, resolve(known, site(), []))
    wanted = [
        NewEndpoint(network, each, MTU) for each in containers(world, [f"10.32.0.{number}" for number in range(5, 40)])
    ]
    assert set(world.kernel.attach(wanted)) == {None}
    assert world.kernel.missing(State().union(*(each.items for each in wanted))) == State()


def test_a_change_by_hand_of_one_that_was_made_is_told(world: World) -> None:
    known, network = network_of(Topology.SWITCHED)
    enforce(world, resolve(known, site(), []))
    (web,) = containers(world, ["10.32.0.5"])
    new = NewEndpoint(network, web, MTU)
    assert world.kernel.attach([new]) == (None,)
    assert world.kernel.changed() == frozenset[NamespaceRef]()
    (near,) = (item for item in new.items if isinstance(item, Link) and item.name == host_end(web.key))
    assert world.remove_by_hand(near)
    assert reports_change(world, near.ns)
