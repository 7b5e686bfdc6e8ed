"""What a kernel does with one item at a time."""

import errno
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

import pytest

from overlayd.dataplane import ownership
from overlayd.dataplane.desired import uplink
from overlayd.dataplane.items import (
    FLOOD,
    HOST,
    Address,
    Bridge,
    BridgeEntry,
    BridgePort,
    FdbEntry,
    Item,
    Link,
    Loopback,
    Namespace,
    NamespaceRef,
    Neighbour,
    NftFamily,
    NftTable,
    RateLimit,
    Route,
    SoftwareChecksums,
    SourceGuard,
    Veth,
    VethPeer,
    Vxlan,
)
from overlayd.dataplane.plan import Add, Change, Delete, Op, Plan
from overlayd.kernel.port import Kernel
from overlayd.model.address import Family
from overlayd.model.errors import NotFound
from overlayd.model.ids import InterfaceName, MacAddress, Vni
from tests.support.kernel.worlds import UNDERLAY, World, observed

NS = NamespaceRef("/run/netns/ov-blue")
OTHER_NS = NamespaceRef("/run/netns/ov-green")
SANDBOX = NamespaceRef("/run/netns/web")
VX, BR, VE, LO = ownership.VXLAN, ownership.BRIDGE, InterfaceName("ve1"), ownership.LOOPBACK
ETH = InterfaceName("eth0")


def mac(number: int) -> MacAddress:
    return MacAddress(f"02:00:00:00:00:{number:02x}")


NO_OWN_ADDRESSES = frozenset((f"net.ipv6.conf.{each}.addr_gen_mode", "1") for each in ("all", "default"))
"""Otherwise the kernel gives every device an address, some seconds after it is set up."""

FORWARDING = frozenset({("net.ipv4.ip_forward", "1"), ("net.ipv4.conf.default.forwarding", "1")})
FORWARDING6 = frozenset((f"net.ipv6.conf.{each}.forwarding", "1") for each in ("all", "default"))
NAMESPACE = Namespace(NS, FORWARDING | {("net.ipv4.conf.all.rp_filter", "1")} | NO_OWN_ADDRESSES)
WITHOUT_IPV6 = frozenset((f"net.ipv6.conf.{each}.disable_ipv6", "1") for each in ("all", "default"))
LOOPBACK = Link(NS, LO, Loopback(), None, None)
VXLAN = Link(NS, VX, Vxlan(Vni(100), UNDERLAY.ip, 4789), mac(1), 1450)
BRIDGE = Link(NS, BR, Bridge(), mac(2), 1450)
PORT = BridgePort(BR, learning=False, unicast_flood=False, neigh_suppress=True)
PAIR = Link(NS, VE, Veth(VethPeer(SANDBOX, ETH, mac(4))), mac(3), 1450, up=False)
NEIGHBOUR = Neighbour(NS, VX, IPv4Address("169.254.2.2"), mac(5))
FDB_ENTRY = FdbEntry(NS, VX, mac(5), IPv4Address("192.0.2.2"))
FLOOD_ENTRY = FdbEntry(NS, VX, FLOOD, IPv4Address("192.0.2.2"))
BRIDGE_ENTRY = BridgeEntry(NS, BR, mac(6), VX)
OWN_MAC = BridgeEntry(NS, BR, mac(2), BR)
"""The kernel has made one for the bridge's MAC, which only becomes ours."""

OTHER_OWN_MAC = BridgeEntry(NS, BR, mac(7), BR)
OWN_MAC_OF_PORT = BridgeEntry(NS, BR, mac(1), BR)
"""The kernel has made one at the port with this MAC, which then is at the bridge."""
ADDRESS = Address(NS, LO, IPv4Interface("169.254.1.1/32"))
VIA = Route(NS, IPv4Network("10.32.1.0/24"), VX, NEIGHBOUR.address, 2)
DIRECT = Route(NS, IPv4Network("10.32.0.2/32"), VX, None, 0)
UNREACHABLE = Route(NS, IPv4Network("10.32.0.0/16"), None, None, 1 << 31)

VXLAN6 = replace(VXLAN, kind=Vxlan(Vni(100), IPv6Address("2001:db8::1"), 4789), mtu=1430)
NEIGHBOUR6 = Neighbour(NS, VX, IPv6Address("fe80::6f76:2"), mac(5))
FDB_ENTRY6 = FdbEntry(NS, VX, mac(5), IPv6Address("2001:db8::2"))
ADDRESS6 = Address(NS, VX, IPv6Interface("fe80::1/128"))
VIA6 = Route(NS, IPv6Network("fd00:32:0:1::/64"), VX, NEIGHBOUR6.address, 1026)
DIRECT6 = Route(NS, IPv6Network("fd00:32::2/128"), VX, None, 1024)
UNREACHABLE6 = Route(NS, IPv6Network("fd00:32::/48"), None, None, 1 << 31)

GUARD = SourceGuard(NS, VE, mac(4), frozenset({IPv4Address("10.32.0.2"), IPv6Address("fd00:32::2")}))
LIMIT = RateLimit(NS, VE, rate=125_000, depth=1_000_000, limit=20_000)
TABLE = NftTable(NS, NftFamily.INET, ownership.TABLE, "table inet overlayd {\n\tchain empty {\n\t}\n}\n")
OTHER_TEXT = "table inet overlayd {\n\tcounter seen { }\n}\n"
HOST_TABLE = replace(TABLE, ns=HOST)
BRIDGE_TABLE = NftTable(NS, NftFamily.BRIDGE, ownership.TABLE, "table bridge overlayd {\n}\n")

BASE: list[Item] = [NAMESPACE, LOOPBACK, BRIDGE, VXLAN]
PORTED: list[Item] = [NAMESPACE, LOOPBACK, BRIDGE, replace(VXLAN, port=PORT)]
OVER_IPV6: list[Item] = [NAMESPACE, LOOPBACK, BRIDGE, VXLAN6]


def perform(kernel: Kernel, *ops: Op) -> list[int | None]:
    """Return the errno of each operation: 0 when it is done, None when it was skipped."""
    outcomes = kernel.apply(Plan(ops))
    assert [outcome.op for outcome in outcomes] == list(ops)
    return [None if outcome.skipped else outcome.error.errno if outcome.error else 0 for outcome in outcomes]


def make(world: World, items: list[Item]) -> None:
    assert perform(world.kernel, *(Add(item) for item in items)) == [0] * len(items)


ITEMS: list[tuple[list[Item], Item]] = [
    ([], NAMESPACE),
    ([], replace(NAMESPACE, sysctls=frozenset())),
    ([NAMESPACE], BRIDGE),
    ([NAMESPACE], replace(BRIDGE, up=False)),
    ([NAMESPACE], VXLAN),
    ([NAMESPACE], replace(VXLAN, up=False)),
    ([NAMESPACE, BRIDGE], replace(VXLAN, port=PORT)),
    ([NAMESPACE, BRIDGE], replace(VXLAN, port=replace(PORT, learning=True, unicast_flood=True, neigh_suppress=False))),
    ([NAMESPACE], PAIR),
    ([NAMESPACE], replace(PAIR, up=True)),
    ([NAMESPACE, BRIDGE], replace(PAIR, port=PORT)),
    (BASE, ADDRESS),
    (BASE, NEIGHBOUR),
    (BASE, replace(NEIGHBOUR, dev=BR)),
    (PORTED, OWN_MAC),
    (PORTED, OTHER_OWN_MAC),
    (PORTED, OWN_MAC_OF_PORT),
    (BASE, FDB_ENTRY),
    (BASE, FLOOD_ENTRY),
    (PORTED, BRIDGE_ENTRY),
    (BASE, VIA),
    (BASE, replace(VIA, metric=0)),
    (BASE, DIRECT),
    (BASE, UNREACHABLE),
    (BASE, replace(UNREACHABLE, dst=IPv4Network("0.0.0.0/0"))),
    ([], replace(NAMESPACE, sysctls=WITHOUT_IPV6)),
    ([], replace(NAMESPACE, sysctls=NO_OWN_ADDRESSES | FORWARDING6)),
    ([NAMESPACE], VXLAN6),
    (OVER_IPV6, FDB_ENTRY6),
    (OVER_IPV6, replace(FDB_ENTRY6, mac=FLOOD)),
    (BASE, SoftwareChecksums(NS, VX)),
    (BASE, ADDRESS6),
    (BASE, NEIGHBOUR6),
    (BASE, replace(NEIGHBOUR6, dev=BR)),
    (BASE, VIA6),
    (BASE, DIRECT6),
    (BASE, UNREACHABLE6),
    (BASE, replace(UNREACHABLE6, dst=IPv6Network("::/0"))),
    ([NAMESPACE, PAIR], LIMIT),
    ([NAMESPACE, PAIR, LIMIT], GUARD),
    ([NAMESPACE, PAIR], replace(LIMIT, rate=1 << 33)),
    ([NAMESPACE], TABLE),
    ([NAMESPACE, TABLE], BRIDGE_TABLE),
    ([], HOST_TABLE),
]
each_item = pytest.mark.parametrize(("needed", "item"), ITEMS, ids=lambda value: type(value).__name__)


@each_item
def test_an_item_that_was_added_is_observed_and_one_that_was_deleted_is_not(
    world: World, needed: list[Item], item: Item
) -> None:
    world.add_sandbox(SANDBOX)
    make(world, needed)
    before = observed(world)
    make(world, [item])
    assert observed(world) - before == {item} | ({LOOPBACK_DOWN} if isinstance(item, Namespace) else frozenset())
    assert perform(world.kernel, Delete(item), Delete(item)) == [0, 0]
    assert observed(world) == before


LOOPBACK_DOWN = replace(LOOPBACK, up=False)
REPEATABLE = (
    *(BRIDGE_ENTRY, OWN_MAC, OTHER_OWN_MAC, OWN_MAC_OF_PORT, FLOOD_ENTRY, replace(FDB_ENTRY6, mac=FLOOD)),
    *(TABLE, BRIDGE_TABLE, HOST_TABLE, SoftwareChecksums(NS, VX)),
)
"""What the bridge learns from us, what is appended, and what is a table or a setting, the kernel takes twice."""


@each_item
def test_adding_what_is_there_is_eexist_and_changes_nothing(world: World, needed: list[Item], item: Item) -> None:
    world.add_sandbox(SANDBOX)
    make(world, [*needed, item])
    before = observed(world)
    assert perform(world.kernel, Add(item)) == [0 if item in REPEATABLE else errno.EEXIST]
    assert observed(world) == before


CHANGES: list[tuple[list[Item], Item, Item]] = [
    ([], NAMESPACE, replace(NAMESPACE, sysctls=FORWARDING | NO_OWN_ADDRESSES)),
    ([NAMESPACE], LOOPBACK, LOOPBACK_DOWN),
    ([NAMESPACE], VXLAN, replace(VXLAN, mac=mac(9))),
    ([NAMESPACE], VXLAN, replace(VXLAN, mtu=1400)),
    ([NAMESPACE], VXLAN, replace(VXLAN, mtu=8950)),
    ([NAMESPACE], VXLAN, replace(VXLAN, up=False)),
    ([NAMESPACE], BRIDGE, replace(BRIDGE, mac=mac(9), mtu=1400)),
    ([NAMESPACE, BRIDGE], VXLAN, replace(VXLAN, port=PORT)),
    ([NAMESPACE, BRIDGE], replace(VXLAN, port=PORT), VXLAN),
    ([NAMESPACE, BRIDGE], replace(VXLAN, port=PORT), replace(VXLAN, port=replace(PORT, learning=True))),
    ([NAMESPACE], PAIR, replace(PAIR, up=True)),
    ([NAMESPACE], PAIR, replace(PAIR, mac=mac(9), mtu=1400, up=True)),
    (BASE, NEIGHBOUR, replace(NEIGHBOUR, mac=mac(9))),
    (BASE, FDB_ENTRY, replace(FDB_ENTRY, dst=IPv4Address("192.0.2.9"))),
    ([*PORTED, replace(PAIR, port=PORT)], BRIDGE_ENTRY, replace(BRIDGE_ENTRY, dev=VE)),
    (BASE, VIA, replace(VIA, via=IPv4Address("169.254.2.9"))),
    (BASE, VIA, replace(VIA, via=None)),
    (BASE, VIA, replace(VIA, dev=None, via=None)),
    ([], NAMESPACE, replace(NAMESPACE, sysctls=WITHOUT_IPV6)),
    ([], replace(NAMESPACE, sysctls=WITHOUT_IPV6), NAMESPACE),
    (BASE, NEIGHBOUR6, replace(NEIGHBOUR6, mac=mac(9))),
    (OVER_IPV6, FDB_ENTRY6, replace(FDB_ENTRY6, dst=IPv6Address("2001:db8::9"))),
    (BASE, VIA6, replace(VIA6, via=IPv6Address("fe80::6f76:9"))),
    (BASE, VIA6, replace(VIA6, via=None)),
    (BASE, VIA6, replace(VIA6, dev=None, via=None)),
    ([NAMESPACE, PAIR], GUARD, replace(GUARD, addresses=frozenset({IPv4Address("10.32.0.3")}))),
    ([NAMESPACE, PAIR], LIMIT, replace(LIMIT, rate=250_000, depth=500_000, limit=30_000)),
    ([NAMESPACE, BRIDGE_TABLE], TABLE, replace(TABLE, text=OTHER_TEXT)),
    ([], HOST_TABLE, replace(HOST_TABLE, text=OTHER_TEXT)),
]


@pytest.mark.parametrize(("needed", "before", "after"), CHANGES)
def test_a_change_takes_force_and_may_be_repeated(world: World, needed: list[Item], before: Item, after: Item) -> None:
    world.add_sandbox(SANDBOX)
    make(world, [*needed, before])
    others = observed(world) - {before}
    assert perform(world.kernel, Change(after, before), Change(after, before), Change(after, after)) == [0, 0, 0]
    assert observed(world) == others | {after}


def test_an_attachment_is_made_inside_the_sandbox_before_the_hosts_end_is_up(world: World) -> None:
    world.add_sandbox(SANDBOX)
    make(world, [NAMESPACE])
    attachment: list[Op] = [
        Add(PAIR),
        Add(Link(SANDBOX, LO, Loopback(), None, None)),
        Add(Link(SANDBOX, ETH, Veth(), mac(4), 1450)),
        Add(Address(SANDBOX, ETH, IPv4Interface("10.32.0.2/32"))),
        Add(Neighbour(SANDBOX, ETH, uplink.NETWORK_SIDES[Family.V4], ownership.GATEWAY_MAC)),
        Add(Route(SANDBOX, IPv4Network("10.32.0.0/16"), ETH, uplink.NETWORK_SIDES[Family.V4], 0)),
        Add(Address(SANDBOX, ETH, IPv6Interface("fd00:32::2/128"))),
        Add(Neighbour(SANDBOX, ETH, uplink.NETWORK_SIDES[Family.V6], ownership.GATEWAY_MAC)),
        Add(Route(SANDBOX, IPv6Network("fd00:32::/48"), ETH, uplink.NETWORK_SIDES[Family.V6], 1024)),
        Change(replace(PAIR, up=True), PAIR),
    ]
    assert perform(world.kernel, *attachment) == [0] * len(attachment)
    repeated = [Change(op.item, op.item) for op in attachment[1:]]
    assert perform(world.kernel, *repeated) == [0] * len(repeated)
    assert replace(PAIR, up=True) in observed(world)
    assert perform(world.kernel, *attachment[2:-1]) == [0, *[errno.EEXIST] * 6]


def test_deleting_a_link_takes_its_entries_and_the_other_end_along(world: World) -> None:
    world.add_sandbox(SANDBOX)
    make(world, [*PORTED, replace(PAIR, port=PORT, up=True)])
    before = observed(world)
    make(world, [BRIDGE_ENTRY, FDB_ENTRY, FLOOD_ENTRY, replace(NEIGHBOUR, dev=VE), replace(DIRECT, dev=VE)])
    assert perform(world.kernel, Delete(PAIR), Delete(VXLAN)) == [0, 0]
    assert observed(world) == {item for item in before if not (isinstance(item, Link) and item.name in {VX, VE})}
    make(world, [replace(PAIR, port=PORT)])


def test_deleting_a_bridge_sets_its_ports_free(world: World) -> None:
    make(world, [*PORTED, BRIDGE_ENTRY])
    assert perform(world.kernel, Delete(BRIDGE)) == [0]
    assert VXLAN in observed(world)
    assert observed(world).isdisjoint({BRIDGE, BRIDGE_ENTRY})


def test_a_link_that_goes_down_loses_neighbours_and_routes_but_no_fdb_entries(world: World) -> None:
    make(world, [*PORTED, NEIGHBOUR, NEIGHBOUR6, FDB_ENTRY, FLOOD_ENTRY, BRIDGE_ENTRY, VIA, VIA6, UNREACHABLE])
    vxlan = replace(VXLAN, port=PORT)
    down = replace(vxlan, up=False)
    expected = observed(world) - {vxlan, NEIGHBOUR, NEIGHBOUR6, VIA, VIA6} | {down}
    assert perform(world.kernel, Change(down, vxlan)) == [0]
    assert observed(world) == expected


def test_a_link_that_goes_down_loses_its_ipv6_addresses_and_no_others(world: World) -> None:
    kept = replace(ADDRESS, dev=VX)
    make(world, [*BASE, ADDRESS6, kept])
    down = replace(VXLAN, up=False)
    expected = observed(world) - {VXLAN, ADDRESS6} | {down}
    assert kept in expected
    assert perform(world.kernel, Change(down, VXLAN)) == [0]
    assert observed(world) == expected


def test_a_new_mac_makes_the_kernel_forget_the_neighbours(world: World) -> None:
    make(world, [*BASE, NEIGHBOUR, NEIGHBOUR6, VIA])
    changed = replace(VXLAN, mac=mac(9))
    expected = observed(world) - {VXLAN, NEIGHBOUR, NEIGHBOUR6} | {changed}
    assert perform(world.kernel, Change(changed, VXLAN)) == [0]
    assert observed(world) == expected


REFUSALS: list[tuple[list[Item], Item, int]] = [
    ([], BRIDGE, errno.ENOENT),
    ([], VIA, errno.ENOENT),
    ([NAMESPACE], replace(VXLAN, port=PORT), errno.ENODEV),
    ([NAMESPACE], Link(NS, VE, Veth(), mac(4), 1450), errno.ENODEV),
    ([NAMESPACE], replace(PAIR, kind=Veth(VethPeer(NamespaceRef("/run/netns/gone"), ETH, mac(4)))), errno.ENOENT),
    ([NAMESPACE, PAIR], replace(PAIR, name=InterfaceName("ve2")), errno.EEXIST),
    ([NAMESPACE, VXLAN], replace(VXLAN, name=InterfaceName("ve2")), errno.EEXIST),
    ([NAMESPACE, VXLAN, Namespace(OTHER_NS, frozenset())], replace(VXLAN, ns=OTHER_NS), errno.EEXIST),
    ([NAMESPACE], replace(ADDRESS, dev=VX), errno.ENODEV),
    ([NAMESPACE], NEIGHBOUR, errno.ENODEV),
    ([NAMESPACE], FDB_ENTRY, errno.ENODEV),
    (BASE, BRIDGE_ENTRY, errno.EOPNOTSUPP),
    (BASE, replace(BRIDGE_ENTRY, dev=VE), errno.ENODEV),
    ([NAMESPACE, LOOPBACK], VIA, errno.ENODEV),
    ([NAMESPACE, LOOPBACK, replace(VXLAN, up=False)], VIA, errno.ENETDOWN),
    ([NAMESPACE, LOOPBACK, replace(VXLAN, up=False)], DIRECT, errno.ENETDOWN),
    ([NAMESPACE, LOOPBACK, replace(VXLAN, up=False)], VIA6, errno.ENETDOWN),
    (BASE, FDB_ENTRY6, errno.EAFNOSUPPORT),
    (OVER_IPV6, FDB_ENTRY, errno.EAFNOSUPPORT),
    ([], TABLE, errno.ENOENT),
    ([NAMESPACE], LIMIT, errno.ENODEV),
    ([NAMESPACE], GUARD, errno.ENODEV),
]


@pytest.mark.parametrize(("needed", "item", "expected"), REFUSALS)
def test_the_impossible_is_refused_and_leaves_nothing_behind(
    world: World, needed: list[Item], item: Item, expected: int
) -> None:
    world.add_sandbox(SANDBOX)
    make(world, needed)
    before = observed(world)
    assert perform(world.kernel, Add(item)) == [expected]
    assert observed(world) == before


def test_two_vnis_on_one_port_and_one_vni_on_two_ports_are_possible(world: World) -> None:
    other = Link(OTHER_NS, VX, Vxlan(Vni(101), UNDERLAY.ip, 4789), mac(1), 1450)
    third = Link(NS, InterfaceName("ve2"), Vxlan(Vni(100), UNDERLAY.ip, 4790), mac(1), 1450)
    make(world, [NAMESPACE, VXLAN, Namespace(OTHER_NS, frozenset()), other, third])
    assert {VXLAN, other, third} <= observed(world)


def test_a_deleted_namespace_frees_its_vni_at_once(world: World) -> None:
    make(world, [*BASE, Namespace(OTHER_NS, frozenset())])
    assert perform(world.kernel, Delete(NAMESPACE), Add(replace(VXLAN, ns=OTHER_NS))) == [0, 0]
    assert world.kernel.namespaces() == {OTHER_NS}
    make(world, [NAMESPACE])


def test_a_namespace_that_does_not_exist_contributes_nothing(world: World) -> None:
    assert world.kernel.observe([NS, SANDBOX]) == frozenset()


def test_flood_entries_stand_beside_each_other(world: World) -> None:
    second = replace(FLOOD_ENTRY, dst=IPv4Address("192.0.2.3"))
    make(world, [*BASE, FLOOD_ENTRY, second])
    assert {FLOOD_ENTRY, second} <= observed(world)
    assert perform(world.kernel, Delete(FLOOD_ENTRY)) == [0]
    assert second in observed(world)
    assert FLOOD_ENTRY not in observed(world)


def test_routes_to_one_destination_differ_in_metric(world: World) -> None:
    second = replace(VIA, metric=3)
    make(world, [*BASE, VIA, second, replace(VIA, metric=0)])
    assert perform(world.kernel, Delete(replace(VIA, metric=0))) == [0]
    assert perform(world.kernel, Delete(second)) == [0]
    assert VIA in observed(world)


def test_sandboxes_are_told_apart_by_device_and_inode(world: World) -> None:
    world.add_sandbox(SANDBOX)
    world.add_sandbox("/run/netns/db")
    first, second = world.kernel.sandbox_id(SANDBOX), world.kernel.sandbox_id("/run/netns/db")
    assert first is not None
    assert second is not None
    assert first != second
    assert world.kernel.sandbox_id(SANDBOX) == first
    assert world.kernel.sandbox_id("/run/netns/none") is None


def test_the_underlay_is_the_device_with_the_address(world: World) -> None:
    assert world.kernel.underlay(UNDERLAY.ip, []).mtu == 1500
    assert world.kernel.underlay(UNDERLAY.ip, []).device == "eth0"
    with pytest.raises(NotFound):
        world.kernel.underlay(IPv4Address("192.0.2.77"), [])
