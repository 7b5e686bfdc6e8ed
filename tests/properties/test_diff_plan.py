"""What holds for every cluster: resolve → observe → diff → apply converges, whatever came before and between."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlayd.dataplane import ownership
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import (
    HOST,
    Bridge,
    FdbEntry,
    Item,
    Link,
    Namespace,
    NamespaceRef,
    Neighbour,
    Route,
    State,
    Sysctl,
)
from overlayd.dataplane.plan import Plan
from overlayd.model.address import Family
from overlayd.model.cluster import Cluster, Record
from overlayd.model.ids import InterfaceName, MacAddress, Revision
from tests.support.controllers.clusters import Scene, scenes
from tests.support.kernel.fake_kernel import FakeKernel, SimulatedCrashError


def desired_by(scene: Scene) -> State:
    return resolve(scene.cluster, scene.site, scene.endpoints)


def kernel_for(*states: State) -> FakeKernel:
    """Return a kernel on which the workloads of all these states run."""
    kernel = FakeKernel()
    for sandbox in {item.ns for state in states for item in state if not ownership.is_observed(item.ns)}:
        kernel.add_sandbox(sandbox)
    return kernel


def observed(kernel: FakeKernel) -> State:
    return kernel.observe(kernel.namespaces() | {HOST})


def owned(state: State) -> State:
    """Return the part of a state that is in our own namespaces: sandboxes are not observed."""
    return frozenset(item for item in state if ownership.is_observed(item.ns))


def plan(desired: State, kernel: FakeKernel) -> Plan:
    return diff(desired, observed(kernel))


def converge(kernel: FakeKernel, desired: State) -> None:
    outcomes = kernel.apply(plan(desired, kernel))
    assert [str(outcome.op) for outcome in outcomes if not outcome.done] == []
    assert_in_force(kernel, desired)


def assert_in_force(kernel: FakeKernel, desired: State) -> None:
    # A sysctl of the host that nobody needs stays as it is.
    assert {item for item in observed(kernel) if item in desired or not isinstance(item, Sysctl)} == owned(desired)


@given(scenes())
def test_one_plan_leads_from_nothing_to_the_desired_state_and_a_second_is_empty(scene: Scene) -> None:
    desired = desired_by(scene)
    kernel = kernel_for(desired)
    converge(kernel, desired)
    assert not plan(desired, kernel)


@given(scenes(), scenes())
def test_one_plan_leads_from_any_state_to_any_other_and_back(first: Scene, second: Scene) -> None:
    before, after = desired_by(first), desired_by(second)
    kernel = kernel_for(before, after)
    converge(kernel, before)
    converge(kernel, after)
    converge(kernel, before)


@given(scenes(), scenes(), st.data())
def test_a_crash_after_any_operation_is_made_good_by_the_next_plan(
    first: Scene, second: Scene, data: st.DataObject
) -> None:
    before, after = desired_by(first), desired_by(second)
    kernel = kernel_for(before, after)
    converge(kernel, before)
    upgrade = plan(after, kernel)
    if upgrade:
        kernel.fail_after(data.draw(st.integers(0, len(upgrade) - 1)))
        with pytest.raises(SimulatedCrashError):
            kernel.apply(upgrade)
    converge(kernel, after)


@given(scenes(), st.data())
def test_a_refused_operation_is_made_good_by_the_next_plan(scene: Scene, data: st.DataObject) -> None:
    desired = desired_by(scene)
    kernel = kernel_for(desired)
    ops = plan(desired, kernel).ops
    count = data.draw(st.integers(0, len(ops)))
    kernel.apply(Plan(ops[:count]))
    kernel.fail_next(105)
    kernel.apply(Plan(ops[count:]))
    converge(kernel, desired)


@given(scenes(), st.data())
def test_whatever_somebody_removes_comes_back(scene: Scene, data: st.DataObject) -> None:
    desired = desired_by(scene)
    kernel = kernel_for(desired)
    converge(kernel, desired)
    ours = sorted(owned(desired), key=repr)
    for item in data.draw(st.lists(st.sampled_from(ours), max_size=5)) if ours else []:
        kernel.remove_by_hand(item)
    converge(kernel, desired)


def foreign_items(ns: NamespaceRef, underlay: Family) -> list[Item]:
    """Return items that somebody else might have in one of our namespaces, none of them with a key of ours."""
    vtep = IPv4Address("198.18.0.9") if underlay is Family.V4 else IPv6Address("2001:db8::c6")
    tunnel, mac = InterfaceName("tun7"), MacAddress("02:ff:00:00:00:01")
    return [
        Link(ns, tunnel, Bridge(), mac, 1500),
        Neighbour(ns, tunnel, IPv4Address("198.18.0.1"), mac),
        Neighbour(ns, ownership.VXLAN, IPv4Address("198.18.0.1"), mac),
        FdbEntry(ns, ownership.VXLAN, mac, vtep),
        Route(ns, IPv4Network("198.18.1.0/24"), ownership.VXLAN, None, 0),
        Route(ns, IPv4Network("198.18.2.0/24"), None, None, 7),
    ]


@given(scenes(), scenes())
def test_foreign_items_stay_as_long_as_what_they_hang_on(first: Scene, second: Scene) -> None:
    before, after = desired_by(first), desired_by(second)
    kernel = kernel_for(before, after)
    converge(kernel, before)
    kept = {item.key for item in before if item in after and isinstance(item, Namespace | Link)}
    kept_tunnels = [
        item.ns for item in before if (Namespace, item.ns) in kept and (Link, item.ns, ownership.VXLAN) in kept
    ]
    foreign = [item for ns in sorted(set(kept_tunnels)) for item in foreign_items(ns, first.site.underlay)]
    for item in foreign:
        kernel.add_foreign(item)
    converge(kernel, after)
    assert [item for item in reversed(foreign) if not kernel.remove_by_hand(item)] == []


@given(scenes(), st.data())
def test_records_in_any_order_and_more_than_once_give_the_same_state(scene: Scene, data: st.DataObject) -> None:
    kernel = kernel_for(desired_by(scene))
    known = Cluster()
    for record in data.draw(shuffled_with_repetitions(scene.cluster.records)):
        known = known.changed(Revision(known.revision + 1), [record])
        converge(kernel, resolve(known, scene.site, scene.endpoints))
    assert_in_force(kernel, desired_by(scene))


def shuffled_with_repetitions(records: Sequence[Record]) -> st.SearchStrategy[list[Record]]:
    return st.tuples(st.permutations(records), st.lists(st.sampled_from(records), max_size=5)).map(
        lambda pair: [*pair[1], *pair[0]]
    )
