"""Which items are not in force, inside a sandbox too: CHECK is built on this question."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from overlayd.dataplane import ownership
from overlayd.dataplane.desired.endpoint import resolve_endpoint
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import (
    HOST,
    Address,
    DeviceSysctls,
    Link,
    NamespaceRef,
    Neighbour,
    Route,
    State,
    network_namespace,
)
from overlayd.kernel.port import Kernel
from overlayd.model.ids import InterfaceName
from overlayd.model.network import Topology
from tests.support.controllers.clusters import HERE, cluster, dual, endpoint, site
from tests.support.kernel.worlds import UNDERLAY, World, observed

LOCAL = replace(endpoint(1, "web", "10.32.0.5,fd00:32::5"), host=HERE, sandbox="/run/netns/web")


def attached(world: World, topology: Topology) -> State:
    """Attach one endpoint; return what it should have made."""
    known = dual(topology)
    me = replace(known.hosts[HERE], address=UNDERLAY.ip)
    known = cluster([*known.changed(known.revision, [me]).records])
    world.add_sandbox(LOCAL.sandbox)
    plan = diff(resolve(known, site(), [LOCAL]), observed(world))
    assert [outcome for outcome in world.kernel.apply(plan) if not outcome.done] == []
    (network,) = (network for network in known.networks.values() if network.name == LOCAL.network)
    return resolve_endpoint(network, LOCAL, site().mtu)


@pytest.mark.parametrize("topology", list(Topology))
def test_nothing_is_missing_of_what_was_applied(world: World, topology: Topology) -> None:
    assert world.kernel.missing(attached(world, topology)) == frozenset()


@pytest.mark.parametrize("kind", [Address, Neighbour, Route, Link])
def test_what_was_removed_or_changed_is_missing(world: World, kind: type) -> None:
    items = attached(world, Topology.ROUTED)
    for item in sorted((item for item in items if type(item) is kind and is_removable(item)), key=str):
        assert world.remove_by_hand(item)
        assert item in world.kernel.missing(items)


def test_a_sandboxs_ipv6_settings_are_looked_at(world: World) -> None:
    items = attached(world, Topology.ROUTED)
    (settings,) = (item for item in items if isinstance(item, DeviceSysctls) and item.dev == LOCAL.interface)
    assert settings not in world.kernel.missing(items)
    other = replace(settings, sysctls=frozenset({("accept_ra", "1"), ("disable_ipv6", "0")}))
    assert world.kernel.missing(frozenset({other})) == {other}


def is_removable(item: object) -> bool:
    """Tell whether an administrator can take it away by itself: the sandbox's end goes with the host's."""
    return not isinstance(item, Link) or ownership.owns(item)


def test_a_different_value_is_missing(world: World) -> None:
    items = attached(world, Topology.ROUTED)
    assert missing_after(world.kernel, items, mtu=1000) == {"eth0"}


def missing_after(kernel: Kernel, items: State, *, mtu: int) -> set[str]:
    wanted = frozenset(
        replace(item, mtu=mtu) if isinstance(item, Link) and item.name == "eth0" else item for item in items
    )
    return {item.name for item in kernel.missing(wanted) if isinstance(item, Link)}


def test_a_device_is_shown_as_it_is(world: World) -> None:
    (inside,) = (i for i in attached(world, Topology.ROUTED) if isinstance(i, Link) and i.name == LOCAL.interface)
    assert world.kernel.link(inside.ns, inside.name) == inside
    assert world.kernel.link(inside.ns, InterfaceName("eth9")) is None
    assert world.kernel.link(NamespaceRef("/run/netns/nowhere"), inside.name) is None


def test_a_namespace_is_known_as_a_networks_or_the_hosts_by_whatever_path(world: World) -> None:
    attached(world, Topology.ROUTED)
    ns = network_namespace(LOCAL.network)
    world.alias_sandbox("/run/netns/alias", ns)
    for _ in range(2):
        owners = {path: world.kernel.own(identity_of(world.kernel, path)) for path in ("/run/netns/alias", ns, HOST)}
        assert owners == {"/run/netns/alias": ns, ns: ns, HOST: HOST}
        assert world.kernel.own(identity_of(world.kernel, LOCAL.sandbox)) is None
        world.restart_agent()
        assert ns in world.kernel.namespaces()


def identity_of(kernel: Kernel, path: str) -> tuple[int, int]:
    found = kernel.sandbox_id(path)
    assert found
    return found


def test_all_of_a_namespace_that_is_not_there_is_missing(world: World) -> None:
    items = frozenset(
        {Neighbour(network_namespace(LOCAL.network), ownership.VXLAN, IPv4Address("169.254.2.2"), LOCAL.mac)}
    )
    assert world.kernel.missing(items) == items
