"""Sandboxes are not observed: when and in which order their items are planned."""

from dataclasses import replace

import pytest

from overlayd.dataplane import ownership
from overlayd.dataplane.desired.endpoint import host_end
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import Item, Link, NamespaceRef, State, Veth, network_namespace
from overlayd.dataplane.plan import Add, Change
from overlayd.model.cluster import Cluster
from overlayd.model.ids import NetworkName, Revision
from overlayd.model.network import Topology
from tests.support.controllers import clusters

WEB = clusters.endpoint(1, "web", "10.32.0.2")
SANDBOX = NamespaceRef("/run/netns/web")
KNOWN = pytest.mark.parametrize("known", [clusters.example(topology) for topology in Topology], ids=list(Topology))


def states(known: Cluster) -> tuple[State, State, Link]:
    """Return what is desired, what would then be observed, and the host's end of the veth pair."""
    desired = resolve(known, clusters.site(), [WEB])
    observed = frozenset(item for item in desired if ownership.owns(item))
    host = next(item for item in desired if isinstance(item, Link) and item.name == host_end(WEB.key))
    return desired, observed, host


def inside(state: State) -> set[Item]:
    return {item for item in state if item.ns == SANDBOX}


@KNOWN
def test_a_sandbox_is_set_up_between_its_pairs_creation_and_setting_it_up(known: Cluster) -> None:
    desired, observed, host = states(known)
    ops = list(diff(desired, frozenset(item for item in observed if item != host)))
    blank = replace(host, up=False, alias="")
    first, last = ops.index(Add(blank)), ops.index(Change(host, blank))
    assert {op.item for op in ops[first + 1 : last]} == inside(desired)
    assert all(isinstance(op, Add) for op in ops[first + 1 : last])
    assert [op for op in ops if op.item.ns == SANDBOX] == ops[first + 1 : last]


@KNOWN
def test_a_sandbox_gets_device_then_address_then_routes(known: Cluster) -> None:
    desired, _, _ = states(known)
    kinds = [type(op.item).__name__ for op in diff(desired, frozenset()) if op.item.ns == SANDBOX]
    full = ["Link", "Link", "Address", "Neighbour", "Route"]
    assert kinds == (full if known.networks[NetworkName("blue")].topology is Topology.ROUTED else full[:3])


@KNOWN
def test_an_interrupted_attachment_is_seen_and_finished(known: Cluster) -> None:
    desired, observed, host = states(known)
    down = replace(host, up=False)
    ops = list(diff(desired, observed - {host} | {down}))
    assert ops[-1] == Change(host, down)
    assert {op.item for op in ops[:-1]} == inside(desired)
    assert all(op == Change(op.item, op.item) for op in ops[:-1])


@KNOWN
def test_a_sandbox_is_left_alone_while_the_hosts_end_is_as_desired(known: Cluster) -> None:
    desired, observed, _ = states(known)
    other = known.changed(Revision(2), [clusters.host(2, "198.51.100.2")])
    plan = diff(resolve(other, clusters.site(), [WEB]), observed)
    assert plan
    assert not [op for op in plan if op.item.ns == SANDBOX]
    assert not diff(desired, observed)


@KNOWN
def test_the_peer_takes_no_part_in_comparisons(known: Cluster) -> None:
    # The kernel cannot tell which namespace the other end is in, so it is observed without.
    desired, observed, host = states(known)
    assert host.kind == Veth()
    assert not diff(desired, observed - {host} | {replace(host, kind=Veth())})


def test_two_interfaces_of_one_sandbox_are_planned_apart() -> None:
    green = clusters.network("green", cidr="10.64.0.0/16")
    both = clusters.example(Topology.ROUTED).changed(Revision(2), [green, clusters.block(1, "10.64.0.0/24", "green")])
    second = clusters.endpoint(1, "web", "10.64.0.2", "green", "eth1")
    with_one, with_both = (resolve(both, clusters.site(), local) for local in ([WEB], [WEB, second]))
    plan = diff(with_both, frozenset(item for item in with_one if ownership.owns(item)))
    devices = {getattr(op.item, "dev", None) or getattr(op.item, "name", None) for op in plan if op.item.ns == SANDBOX}
    assert devices == {"lo", "eth1"}
    assert {op.item.ns for op in plan} == {SANDBOX, network_namespace(green.name)}
