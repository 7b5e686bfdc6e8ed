"""A kernel reports the namespaces in which others changed something, and not what this agent did itself."""

from dataclasses import replace
from ipaddress import IPv4Address, ip_interface

import pytest

from overlayd.dataplane import ownership
from overlayd.dataplane.desired.endpoint import host_end, resolve_endpoint
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.diff import diff, retirement
from overlayd.dataplane.items import (
    FLOOD,
    HOST,
    Address,
    BridgeEntry,
    FdbEntry,
    Item,
    Link,
    Namespace,
    Neighbour,
    Route,
    State,
    network_namespace,
)
from overlayd.dataplane.plan import Add, Delete, Plan
from overlayd.kernel.port import Underlay
from overlayd.model.ids import MacAddress, NetworkName
from overlayd.model.network import Topology, Uplink
from tests.support.controllers.clusters import HERE, dual, endpoint, example, site
from tests.support.kernel.worlds import UNDERLAY, World, enforce, observed, reports_change

LOCAL = endpoint(1, "web", "10.32.0.5")
REMOTE = (endpoint(2, "db", "10.32.1.5"), endpoint(3, "cache", "10.32.2.5"))
BLUE = network_namespace(NetworkName("blue"))
MAC = MacAddress("02:00:00:00:00:77")

TOPOLOGIES = pytest.mark.parametrize("topology", list(Topology))


def started(world: World, topology: Topology) -> State:
    """Bring a network into force; everything that the kernel has to tell of it is read."""
    world.add_sandbox(LOCAL.sandbox)
    known = example(topology, LOCAL, *REMOTE)
    me = replace(known.hosts[HERE], address=UNDERLAY.ip)
    desired = resolve(known.changed(known.revision, [me]), site(), [LOCAL])
    world.kernel.underlay(UNDERLAY.ip, [])
    enforce(world, desired)
    world.kernel.changed()
    return desired


def one(state: State, kind: type[Item], name: str = "") -> Item:
    """Return the first item of a kind, on the device of this name."""
    found = [item for item in state if isinstance(item, kind) and item.ns == BLUE]
    return min((item for item in found if name in {"", getattr(item, "name", ""), getattr(item, "dev", "")}), key=repr)


@TOPOLOGIES
def test_whatever_is_removed_by_hand_is_reported(world: World, topology: Topology) -> None:
    wanted = started(world, topology)
    for item in sorted((item for item in wanted if ownership.owns(item)), key=lambda item: repr(item.key)):
        assert world.remove_by_hand(item)
        assert reports_change(world, item.ns), f"not reported: {item}"
        enforce(world, wanted)
        world.kernel.changed()


@TOPOLOGIES
def test_what_the_agent_does_itself_is_no_news(world: World, topology: Topology) -> None:
    wanted = started(world, topology)
    mine = [item for item in wanted if ownership.owns(item)]
    entries = [item for item in mine if not isinstance(item, Link | Namespace)]
    for item in sorted(entries, key=repr):
        for op in (Delete(item), Add(item)):
            assert [outcome for outcome in world.kernel.apply(Plan((op,))) if not outcome.done] == []
            assert world.kernel.changed() == frozenset(), str(op)


@TOPOLOGIES
def test_an_attachment_and_its_end_are_no_news(world: World, topology: Topology) -> None:
    started(world, topology)
    late = endpoint(1, "late", "10.32.0.9")
    world.add_sandbox(late.sandbox)
    (network,) = example(topology).networks.values()
    items = resolve_endpoint(network, late, site().mtu)
    owned = frozenset(item for item in items if ownership.owns(item))
    attached = diff(items, frozenset())
    for plan in (attached, diff(frozenset(), owned), attached, retirement(owned), attached):
        assert [outcome for outcome in world.kernel.apply(plan) if not outcome.done] == []
        assert world.kernel.changed() == frozenset()
    world.kernel.reap({BLUE})
    assert world.kernel.changed() == frozenset()


def vxlan(state: State) -> Link:
    found = one(state, Link, "vx0")
    assert isinstance(found, Link)
    return found


@TOPOLOGIES
@pytest.mark.parametrize("change", [{"mtu": 1000}, {"mac": MAC}, {"up": False}], ids=lambda change: str(*change))
def test_a_changed_device_is_reported(world: World, topology: Topology, change: dict[str, object]) -> None:
    before = vxlan(started(world, topology))
    world.change_by_hand(replace(before, **change), before)  # type: ignore[arg-type]
    assert reports_change(world, BLUE)


def test_changed_flags_of_a_bridge_port_are_told(world: World) -> None:
    before = vxlan(started(world, Topology.SWITCHED))
    assert before.port
    flags = before.port
    for port in (
        replace(flags, learning=True),
        replace(flags, unicast_flood=True),
        replace(flags, neigh_suppress=False),
    ):
        world.change_by_hand(replace(before, port=port), before)
        assert reports_change(world, BLUE), str(port)
        world.change_by_hand(before, replace(before, port=port))
        observed(world)


def test_an_entry_that_is_replaced_is_reported(world: World) -> None:
    wanted = started(world, Topology.ROUTED)
    route, neighbour, entry = (one(wanted, kind, "vx0") for kind in (Route, Neighbour, FdbEntry))
    assert isinstance(route, Route)
    assert isinstance(neighbour, Neighbour)
    assert isinstance(entry, FdbEntry)
    elsewhere = replace(entry, dst=IPv4Address("192.0.2.99"))
    direct, another = replace(route, via=None), replace(neighbour, mac=MAC)
    for after, before in ((direct, route), (another, neighbour), (elsewhere, entry)):
        world.change_by_hand(after, before)
        assert reports_change(world, BLUE), str(after)
        world.remove_by_hand(after)
        enforce(world, wanted)
        world.kernel.changed()


def test_a_destination_that_somebody_puts_into_the_flood_list_is_reported(world: World) -> None:
    started(world, Topology.SWITCHED)
    world.add_by_hand(FdbEntry(BLUE, ownership.VXLAN, FLOOD, IPv4Address("192.0.2.99")))
    assert reports_change(world, BLUE)


def test_a_mac_that_somebody_moves_to_another_port_is_reported(world: World) -> None:
    wanted = started(world, Topology.SWITCHED)
    (remote,) = (item for item in wanted if isinstance(item, BridgeEntry) and item.mac == REMOTE[0].mac)
    (local,) = (item for item in wanted if isinstance(item, BridgeEntry) and item.mac == LOCAL.mac)
    world.change_by_hand(replace(remote, dev=local.dev), remote)
    assert reports_change(world, BLUE)


def test_a_changed_sysctl_is_reported(world: World) -> None:
    before = one(started(world, Topology.ROUTED), Namespace)
    assert isinstance(before, Namespace)
    for name, value in sorted(before.sysctls):
        changed = replace(before, sysctls=before.sysctls - {(name, value)} | {(name, "01"[value == "0"])})
        world.change_by_hand(changed, before)
        assert reports_change(world, BLUE), name
        world.change_by_hand(before, changed)
        observed(world)
        world.kernel.changed()


@TOPOLOGIES
def test_a_changed_sysctl_of_a_single_device_is_told_and_taken_back(world: World, topology: Topology) -> None:
    known = dual(topology)
    blue = replace(known.networks[NetworkName("blue")], uplink=Uplink.HOST)
    world.add_sandbox(LOCAL.sandbox)
    wanted = resolve(known.changed(known.revision, [blue]), site(), [LOCAL])
    enforce(world, wanted)
    world.kernel.changed()
    before = one(wanted, Namespace)
    assert isinstance(before, Namespace)
    for device in ("vx0", "up0", host_end(LOCAL.key)):
        for setting in (
            (f"net/ipv4/conf/{device}/forwarding", "0"),
            (f"net/ipv4/conf/{device}/rp_filter", "2"),
            (f"net/ipv6/conf/{device}/forwarding", "0"),
        ):
            world.change_by_hand(replace(before, sysctls=before.sysctls | {setting}), before)
            assert reports_change(world, BLUE), str(setting)
            enforce(world, wanted)
            world.kernel.changed()
    for setting in (("net/ipv4/conf/up0/send_redirects", "1"), ("net/ipv6/conf/vx0/disable_ipv6", "1")):
        world.change_by_hand(replace(before, sysctls=before.sysctls | {setting}), before)
        assert enforce(world, wanted), f"nothing was planned: {setting}"


def test_a_namespace_that_is_deleted_or_replaced_is_reported(world: World) -> None:
    wanted = started(world, Topology.ROUTED)
    namespace = one(wanted, Namespace)
    assert world.remove_by_hand(namespace)
    world.add_by_hand(namespace)
    assert reports_change(world, BLUE)
    assert world.remove_by_hand(namespace)
    assert reports_change(world, BLUE)


def test_a_network_that_the_agent_makes_or_removes_is_no_news(world: World) -> None:
    wanted = started(world, Topology.ROUTED)
    enforce(world, frozenset())
    assert world.kernel.changed() == frozenset()
    enforce(world, wanted)
    assert world.kernel.changed() <= {BLUE}, "a look more, at most"


def test_another_mtu_of_the_underlay_is_reported(world: World) -> None:
    started(world, Topology.ROUTED)
    world.change_underlay_mtu(1400)
    assert reports_change(world, HOST)
    assert world.kernel.underlay(UNDERLAY.ip, []).mtu == 1400


def test_an_address_on_the_loopback_has_the_mtu_of_the_way_to_others(world: World) -> None:
    started(world, Topology.ROUTED)
    vtep, peer = ip_interface("198.51.100.1/32"), IPv4Address("192.0.2.9")
    world.add_by_hand(Address(HOST, ownership.LOOPBACK, vtep))
    assert world.kernel.underlay(vtep.ip, [peer]) == Underlay("lo", 1500)
    world.kernel.surroundings()
    world.kernel.changed()
    world.change_underlay_mtu(1400)
    assert reports_change(world, HOST)
    assert world.kernel.underlay(vtep.ip, [peer, vtep.ip, IPv4Address("203.0.113.1")]).mtu == 1400


def test_what_is_no_business_of_ours_is_not_told(world: World) -> None:
    started(world, Topology.ROUTED)
    world.add_sandbox("/run/netns/other")
    assert world.kernel.changed() == frozenset()


def test_what_somebody_does_while_the_agent_works_is_reported(world: World) -> None:
    wanted = started(world, Topology.SWITCHED)
    entry = one(wanted, FdbEntry, "vx0")
    other = replace(entry, mac=MAC) if isinstance(entry, FdbEntry) else entry
    assert world.remove_by_hand(entry)
    world.kernel.apply(Plan((Add(other),)))
    assert reports_change(world, BLUE)


def with_uplink(world: World) -> State:
    """Bring a network with an uplink into force; everything that the kernel has to tell of it is read."""
    known = dual(Topology.ROUTED)
    me = replace(known.hosts[HERE], address=UNDERLAY.ip)
    blue = replace(known.networks[NetworkName("blue")], uplink=Uplink.HOST)
    desired = resolve(known.changed(known.revision, [me, blue]), site(), [])
    world.kernel.underlay(UNDERLAY.ip, [])
    world.kernel.surroundings()
    enforce(world, desired)
    world.kernel.changed()  # the first uplink of a host makes it forward, which concerns all that it has
    return desired


def test_an_uplink_that_the_agent_makes_or_removes_is_no_news(world: World) -> None:
    wanted = with_uplink(world)
    enforce(world, frozenset())
    assert HOST not in world.kernel.changed()
    enforce(world, wanted)
    assert HOST not in world.kernel.changed()
    enforce(world, frozenset())
    world.kernel.changed()
    enforce(world, wanted)
    observed(world)
    assert HOST not in world.kernel.changed(), "observed before its notifications were read"


@pytest.mark.parametrize("change", [{"mtu": 1000}, {"mac": MAC}, {"up": False}], ids=lambda change: str(*change))
def test_an_uplink_that_the_agent_made_and_others_change_is_reports_change(
    world: World, change: dict[str, object]
) -> None:
    wanted = with_uplink(world)
    enforce(world, frozenset())
    enforce(world, wanted)
    (uplink,) = (item for item in wanted if isinstance(item, Link) and item.ns == HOST)
    world.change_by_hand(replace(uplink, **change), uplink)  # type: ignore[arg-type]
    assert reports_change(world, HOST)


def test_an_uplink_that_others_set_down_and_up_again_is_reports_change(world: World) -> None:
    """What hung on it went with that."""
    wanted = with_uplink(world)
    (uplink,) = (item for item in wanted if isinstance(item, Link) and item.ns == HOST)
    down = replace(uplink, up=False)
    world.change_by_hand(down, uplink)
    world.change_by_hand(uplink, down)
    assert reports_change(world, HOST)


def test_what_others_take_from_an_uplink_that_the_agent_made_is_reports_change(world: World) -> None:
    wanted = with_uplink(world)
    for kind in (Address, Route, Link):
        item = min((item for item in wanted if isinstance(item, kind) and item.ns == HOST), key=repr)
        assert world.remove_by_hand(item)
        assert reports_change(world, HOST), str(item)
        enforce(world, wanted)
        world.kernel.changed()
