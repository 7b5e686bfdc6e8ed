"""Operations as text that the golden plans do not have."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface

import pytest

from overlayd.dataplane.items import (
    HOST,
    Address,
    Bridge,
    BridgePort,
    Link,
    Loopback,
    Namespace,
    NamespaceRef,
    Neighbour,
    NftFamily,
    NftTable,
    Other,
    RateLimit,
    Route,
    SoftwareChecksums,
    SourceGuard,
    Sysctl,
    Veth,
)
from overlayd.dataplane.ownership import VXLAN, forwarding_sysctl, ipv6_sysctl
from overlayd.dataplane.plan import Add, Change, Delete, Op, Plan
from overlayd.model.ids import InterfaceName, MacAddress

OURS, SANDBOX = NamespaceRef("/run/netns/ov-blue"), NamespaceRef("/proc/4711/ns/net")
MAC, OTHER_MAC = MacAddress("02:00:0a:20:00:05"), MacAddress("02:00:0a:20:00:06")
ETH0, BR0 = InterfaceName("eth0"), InterfaceName("br0")
PORT = BridgePort(BR0, learning=True, unicast_flood=True, neigh_suppress=False)
LINK = Link(OURS, BR0, Bridge(), MAC, 1450)
NEIGHBOUR = Neighbour(OURS, ETH0, IPv4Address("10.32.0.5"), MAC)
VE1, OV7 = InterfaceName("ve1"), InterfaceName("ov7")
LIMIT = RateLimit(OURS, VE1, rate=1_000_000, depth=1_953_125, limit=150_000)
GUARD = SourceGuard(OURS, VE1, MAC, frozenset({IPv4Address("10.32.0.6"), IPv4Address("10.32.0.5")}))
CHECKSUMS = SoftwareChecksums(OURS, VXLAN)
IN_NETWORK, ON_HOST = (NftTable(ns, NftFamily.INET, "overlayd", "") for ns in (OURS, HOST))
FORWARDS = Namespace(OURS, frozenset({("net.ipv4.ip_forward", "1")}))


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
        (
            Add(Address(SANDBOX, ETH0, IPv6Interface("fd00:32::5/128"))),
            "ip -n /proc/4711/ns/net address add fd00:32::5/128 dev eth0 nodad",
        ),
        (
            Delete(Address(SANDBOX, ETH0, IPv6Interface("fd00:32::5/128"))),
            "ip -n /proc/4711/ns/net address del fd00:32::5/128 dev eth0",
        ),
        (
            Change(replace(LINK, alias="web's", port=PORT, up=False), replace(LINK, mac=OTHER_MAC, mtu=1400)),
            (
                "ip -n ov-blue link set br0 address 02:00:0a:20:00:05 mtu 1450 alias 'web'\"'\"'s' master br0 down; "
                "bridge -n ov-blue link set dev br0 learning on flood on neigh_suppress off"
            ),
        ),
        (
            Add(LIMIT),
            "tc -n ov-blue qdisc add dev ve1 root handle 6f76: tbf rate 8000000bit burst 125000b limit 150000b",
        ),
        (
            Change(LIMIT, replace(LIMIT, limit=1)),
            "tc -n ov-blue qdisc replace dev ve1 root handle 6f76: tbf rate 8000000bit burst 125000b limit 150000b",
        ),
        (Delete(LIMIT), "tc -n ov-blue qdisc del dev ve1 root handle 6f76:"),
        (Add(GUARD), "tc -n ov-blue qdisc add dev ve1 ingress # only 02:00:0a:20:00:05, 10.32.0.5, 10.32.0.6"),
        (
            Change(replace(GUARD, ethertypes=frozenset({0x8892, 0x800})), GUARD),
            (
                "tc -n ov-blue qdisc replace dev ve1 ingress # only 02:00:0a:20:00:05, 10.32.0.5, 10.32.0.6; "
                "EtherTypes 0x0800, 0x8892 too"
            ),
        ),
        (Delete(GUARD), "tc -n ov-blue qdisc del dev ve1 ingress"),
        (Add(CHECKSUMS), "nsenter --net=/run/netns/ov-blue ethtool -K vx0 tx off"),
        (Change(CHECKSUMS, CHECKSUMS), "nsenter --net=/run/netns/ov-blue ethtool -K vx0 tx off"),
        (Delete(CHECKSUMS), "nsenter --net=/run/netns/ov-blue ethtool -K vx0 tx on"),
        (Delete(IN_NETWORK), "nsenter --net=/run/netns/ov-blue nft delete table inet overlayd"),
        (Delete(ON_HOST), "nft delete table inet overlayd"),
        (Delete(Sysctl(HOST, forwarding_sysctl(OV7), "1")), "sysctl -w net/ipv4/conf/ov7/forwarding=0"),
        (Delete(Sysctl(HOST, ipv6_sysctl(OV7), "0")), "sysctl -w net/ipv6/conf/ov7/disable_ipv6=1"),
        (
            Change(FORWARDS, replace(FORWARDS, sysctls=FORWARDS.sysctls | {("net/ipv4/conf/vx0/forwarding", "0")})),
            (
                "nsenter --net=/run/netns/ov-blue sysctl -w net.ipv4.ip_forward=1; "
                "nsenter --net=/run/netns/ov-blue sysctl -w net/ipv4/conf/vx0/forwarding=1"
            ),
        ),
        (
            Change(FORWARDS, replace(FORWARDS, sysctls=frozenset({("net/ipv4/conf/a.7/rp_filter", "2")}))),
            (
                "nsenter --net=/run/netns/ov-blue sysctl -w net.ipv4.ip_forward=1; "
                "nsenter --net=/run/netns/ov-blue sysctl -w net/ipv4/conf/a.7/rp_filter=0"
            ),
        ),
    ],
)
def test_an_operation_reads_as_it_would_be_typed(op: Op, text: str) -> None:
    assert str(op) == text


def test_a_plan_shows_one_operation_a_line() -> None:
    plan = Plan((Delete(LINK), Add(NEIGHBOUR)))
    assert str(plan).splitlines() == [str(op) for op in plan]
    assert (bool(plan), len(plan)) == (True, 2)
