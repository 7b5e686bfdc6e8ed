"""Operations as text that the golden plans do not have."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from overlayd.dataplane.items import (
    Address,
    Bridge,
    BridgePort,
    Link,
    Loopback,
    Namespace,
    NamespaceRef,
    Neighbour,
    Other,
    Route,
    Veth,
)
from overlayd.dataplane.plan import Add, Change, Delete, Op, Plan
from overlayd.model.ids import InterfaceName, MacAddress

OURS, SANDBOX = NamespaceRef("/run/netns/ov-blue"), NamespaceRef("/proc/4711/ns/net")
MAC, OTHER_MAC = MacAddress("02:00:0a:20:00:05"), MacAddress("02:00:0a:20:00:06")
ETH0, BR0 = InterfaceName("eth0"), InterfaceName("br0")
PORT = BridgePort(BR0, learning=True, unicast_flood=True, neigh_suppress=False)
LINK = Link(OURS, BR0, Bridge(), MAC, 1450)
NEIGHBOUR = Neighbour(OURS, ETH0, IPv4Address("10.32.0.5"), MAC)


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (Add(Link(SANDBOX, ETH0, Veth(), MAC, 1450)), "ip -n /proc/4711/ns/net link set eth0 mtu 1450 up"),
        (Add(Link(OURS, InterfaceName("lo"), Loopback(), None, None)), "ip -n ov-blue link set lo up"),
        (
            Add(replace(LINK, up=False)),
            "ip -n ov-blue link add br0 address 02:00:0a:20:00:05 mtu 1450 type bridge mcast_snooping 0",
        ),
        (Change(LINK, replace(LINK, up=False)), "ip -n ov-blue link set br0 up"),
        (Change(replace(LINK, up=False), LINK), "ip -n ov-blue link set br0 down"),
        (Change(LINK, replace(LINK, mac=OTHER_MAC)), "ip -n ov-blue link set br0 address 02:00:0a:20:00:05"),
        (Change(LINK, replace(LINK, port=PORT)), "ip -n ov-blue link set br0 nomaster"),
        (
            Change(replace(LINK, port=PORT), replace(LINK, port=replace(PORT, learning=False))),
            "bridge -n ov-blue link set dev br0 learning on flood on neigh_suppress off",
        ),
        (Change(LINK, LINK), "ip -n ov-blue link set br0 mtu 1450 up"),
        (Delete(replace(LINK, kind=Other("dummy"))), "ip -n ov-blue link del br0"),
        (
            Change(Namespace(OURS, frozenset({("a.b", "1")})), Namespace(OURS, frozenset())),
            "nsenter --net=/run/netns/ov-blue sysctl -w a.b=1",
        ),
        (
            Delete(Address(SANDBOX, ETH0, IPv4Interface("10.32.0.5/32"))),
            "ip -n /proc/4711/ns/net address del 10.32.0.5/32 dev eth0",
        ),
        (
            Change(NEIGHBOUR, replace(NEIGHBOUR, mac=OTHER_MAC)),
            "ip -n ov-blue neighbour replace 10.32.0.5 lladdr 02:00:0a:20:00:05 dev eth0 nud permanent",
        ),
        (
            Delete(Route(OURS, IPv4Network("10.32.0.0/16"), None, None, 5)),
            "ip -n ov-blue route del unreachable 10.32.0.0/16 metric 5 proto 118",
        ),
    ],
)
def test_an_operation_reads_as_it_would_be_typed(op: Op, text: str) -> None:
    assert str(op) == text


def test_a_plan_shows_one_operation_a_line() -> None:
    plan = Plan((Delete(LINK), Add(NEIGHBOUR)))
    assert str(plan).splitlines() == [str(op) for op in plan]
    assert (bool(plan), len(plan)) == (True, 2)
