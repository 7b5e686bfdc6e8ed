"""Uplinks on both kernels: made, found again, repaired, changed and removed, in the host's own namespace too."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from overlayd.dataplane import ownership
from overlayd.dataplane.desired.endpoint import host_end
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.desired.uplink import host_device
from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import (
    HOST,
    Address,
    Bridge,
    Item,
    Link,
    Namespace,
    NamespaceRef,
    NftTable,
    RateLimit,
    Route,
    State,
    Sysctl,
    Veth,
    VethPeer,
)
from overlayd.dataplane.plan import Add, Plan
from overlayd.model.bandwidth import Bandwidth, Rate
from overlayd.model.cluster import Cluster
from overlayd.model.ids import InterfaceName, NetworkName
from overlayd.model.network import Topology, Uplink
from overlayd.model.published_port import PortMapping, Published, TransportProtocol
from tests.support.controllers.clusters import HERE, dual, endpoint, site
from tests.support.kernel.worlds import UNDERLAY, World, enforce, observed, reports_change

BLUE = NetworkName("blue")
LOCAL = endpoint(1, "web", "10.32.0.5,fd00:32::5")
OV100 = host_device(dual(Topology.ROUTED).networks[BLUE].vni)

each_kind = pytest.mark.parametrize("kind", [Uplink.HOST, Uplink.ISOLATED])
each_topology = pytest.mark.parametrize("topology", list(Topology))


def known(topology: Topology, kind: Uplink, *, egress: bool = True) -> Cluster:
    made = dual(topology)
    me = replace(made.hosts[HERE], address=UNDERLAY.ip)
    return made.changed(made.revision, [me, replace(made.networks[BLUE], uplink=kind, egress=egress)])


PORTS = tuple(
    Published(BLUE, LOCAL.addresses, PortMapping(transport, 8080, 80, address))
    for transport in TransportProtocol
    for address in (UNDERLAY.ip, ip_address("fd99::1"))
)


LIMITS = Bandwidth(Rate(8_000_000, 80_000), Rate(16_000_000, 0))


def desired(topology: Topology, kind: Uplink, *, egress: bool = True, mtu: int = 1500, ports: bool = True) -> State:
    here = replace(site(mtu), published=PORTS if ports else (), bandwidths=((LOCAL, LIMITS),))
    return resolve(known(topology, kind, egress=egress), here, [LOCAL])


@each_topology
@each_kind
def test_an_uplink_is_made_and_a_new_agent_finds_it_as_it_should_be(
    world: World, topology: Topology, kind: Uplink
) -> None:
    world.add_sandbox(LOCAL.sandbox)
    enforce(world, desired(topology, kind))
    world.restart_agent()
    assert not diff(desired(topology, kind), observed(world))


@each_topology
@each_kind
def test_whatever_is_removed_of_an_uplink_comes_back(world: World, topology: Topology, kind: Uplink) -> None:
    world.add_sandbox(LOCAL.sandbox)
    wanted = desired(topology, kind)
    enforce(world, wanted)
    without = frozenset(item for item in desired(topology, Uplink.NONE) if not isinstance(item, RateLimit))
    for item in sorted((item for item in wanted - without if ownership.owns(item)), key=lambda item: repr(item.key)):
        assert world.remove_by_hand(item)
        # A namespace that the agent holds gets its name back at the next look.
        assert enforce(world, wanted) or isinstance(item, Namespace), f"nothing was planned when this was gone: {item}"


@each_topology
def test_an_uplink_changes_its_kind_and_goes_and_comes(world: World, topology: Topology) -> None:
    world.add_sandbox(LOCAL.sandbox)
    enforce(world, desired(topology, Uplink.NONE))
    of_the_endpoint = {"lo", LOCAL.interface, host_end(LOCAL.key)}
    for kind in (Uplink.HOST, Uplink.ISOLATED, Uplink.HOST, Uplink.NONE, Uplink.ISOLATED, Uplink.NONE):
        plan = enforce(world, desired(topology, kind))
        assert {link.name for link in plan_links(plan)} - of_the_endpoint <= {ownership.UPLINK, OV100}
    enforce(world, frozenset())


def plan_links(plan: Plan) -> list[Link]:
    return [op.item for op in plan if isinstance(op.item, Link)]


@each_kind
def test_ports_come_and_go_in_tables_alone(world: World, kind: Uplink) -> None:
    world.add_sandbox(LOCAL.sandbox)
    enforce(world, desired(Topology.ROUTED, kind, ports=False))
    for ports in (True, False):
        plan = enforce(world, desired(Topology.ROUTED, kind, ports=ports))
        assert {type(op.item) for op in plan} <= {NftTable, Sysctl}
        assert plan


@each_kind
def test_a_changed_underlay_mtu_and_egress_are_followed_without_touching_the_devices(
    world: World, kind: Uplink
) -> None:
    world.add_sandbox(LOCAL.sandbox)
    enforce(world, desired(Topology.ROUTED, kind))
    assert not plan_links(enforce(world, desired(Topology.ROUTED, kind, egress=False)))
    changed = plan_links(enforce(world, desired(Topology.ROUTED, kind, egress=False, mtu=9000)))
    assert {link.mtu for link in changed if link.name in {ownership.UPLINK, OV100}} == {8950}


def test_a_device_of_somebody_else_with_our_name_stays_and_costs_the_uplink_only(world: World) -> None:
    world.add_sandbox(LOCAL.sandbox)
    foreign = Link(HOST, OV100, Bridge(), LOCAL.mac, 1450)
    world.add_by_hand(foreign)
    outcomes = world.kernel.apply(diff(desired(Topology.ROUTED, Uplink.HOST), observed(world)))
    failed = [outcome.op.item for outcome in outcomes if not outcome.done]
    assert {item.dev if isinstance(item, Address | Route) else getattr(item, "name", "") for item in failed} >= {
        ownership.UPLINK,
        OV100,
    }
    left = diff(desired(Topology.ROUTED, Uplink.HOST), observed(world))
    assert {op.item.ns for op in left} <= {HOST, NamespaceRef("/run/netns/ov-blue")}
    assert not any(isinstance(op.item, Link) and op.item.name not in {OV100, ownership.UPLINK} for op in left)
    assert world.remove_by_hand(foreign)
    enforce(world, desired(Topology.ROUTED, Uplink.HOST))


def test_routes_gateways_and_addresses_of_others_are_told_and_ours_are_not(world: World) -> None:
    world.add_sandbox(LOCAL.sandbox)
    before = world.kernel.surroundings()
    assert before.addresses == {UNDERLAY.ip}
    enforce(world, desired(Topology.ROUTED, Uplink.HOST))
    assert world.kernel.surroundings() == before
    for item in foreign_items(InterfaceName("foreign0")):
        world.add_by_hand(item)
    after = world.kernel.surroundings()
    assert after.routes - before.routes == {ip_network("198.51.100.0/24"), ip_network("2001:db8:7::/48")}
    assert after.next_hops - before.next_hops == {ip_address("203.0.113.9"), ip_address("203.0.113.8")}
    assert after.addresses - before.addresses == {ip_address("203.0.113.1")}


def test_another_address_and_gateway_of_the_host_are_news(world: World) -> None:
    world.add_sandbox(LOCAL.sandbox)
    enforce(world, desired(Topology.ROUTED, Uplink.HOST))
    world.kernel.underlay(UNDERLAY.ip, [])
    world.kernel.surroundings()
    world.kernel.changed()
    device, address, default, *_ = foreign_items(InterfaceName("foreign0"))
    world.add_by_hand(device)
    for item in (address, default):
        world.add_by_hand(item)
        assert reports_change(world, HOST), str(item)
        world.kernel.surroundings()
        world.kernel.changed()
    assert world.remove_by_hand(address)
    assert reports_change(world, HOST)


@each_kind
def test_what_is_changed_of_the_hosts_end_of_an_uplink_is_told_and_taken_back(world: World, kind: Uplink) -> None:
    world.add_sandbox(LOCAL.sandbox)
    wanted = desired(Topology.ROUTED, kind)
    enforce(world, wanted)
    world.kernel.surroundings()
    world.kernel.underlay(UNDERLAY.ip, [])
    world.kernel.changed()
    end = next(item for item in wanted if isinstance(item, Link) and item.name == OV100)
    forwarding = Sysctl(HOST, f"net/ipv4/conf/{OV100}/forwarding", "1")
    without_ipv6 = Sysctl(HOST, f"net/ipv6/conf/{OV100}/disable_ipv6", "0")
    for before, changed in (
        (end, replace(end, mac=LOCAL.mac)),
        (end, replace(end, up=False)),
        (forwarding, replace(forwarding, value="0")),
        (without_ipv6, replace(without_ipv6, value="1")),
    ):
        assert before in wanted
        world.change_by_hand(changed, before)
        assert reports_change(world, HOST), str(changed)
        enforce(world, wanted)
        world.kernel.changed()


def foreign_items(device: InterfaceName) -> list[Item]:
    return [
        Link(HOST, device, Bridge(), LOCAL.mac, 1450),
        Address(HOST, device, ip_interface("203.0.113.1/32")),
        Route(HOST, ip_network("0.0.0.0/0"), device, ip_address("203.0.113.9"), 4000),
        Route(HOST, ip_network("198.51.100.0/24"), device, ip_address("203.0.113.8"), 0),
        Route(HOST, ip_network("2001:db8:7::/48"), device, None, 1024),
    ]


def test_the_ends_of_an_uplink_come_together(world: World) -> None:
    world.add_sandbox(LOCAL.sandbox)
    enforce(world, desired(Topology.ROUTED, Uplink.NONE))
    ns = NamespaceRef("/run/netns/ov-blue")
    pair = Link(ns, ownership.UPLINK, Veth(VethPeer(HOST, OV100, ownership.HOST_MAC)), ownership.GATEWAY_MAC, 1450)
    far_end = Link(HOST, OV100, Veth(), ownership.HOST_MAC, 1450)
    assert all(outcome.done for outcome in world.kernel.apply(Plan((Add(pair), Add(far_end)))))
    assert {pair, far_end} <= observed(world)
