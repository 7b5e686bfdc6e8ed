"""What the kernel makes of frames that scapy builds, by the program of a container on a segment."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    IPv6,
)
from scapy.layers.l2 import ARP, LLC, SNAP, STP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Packet, Raw

from overlayd.kernel.packets.classic_bpf import assembled
from overlayd.kernel.packets.source_guard import program
from overlayd.model.ids import MacAddress
from tests.support.packets.extension_headers import (
    FIRST,
    HOP_BY_HOP,
    ICMPV6,
    LATER,
    LONG_OPTIONS,
    OPTIONS,
    READ_OVER,
    UDP_KIND,
    UNREADABLE,
    WHOLE,
    Header,
    stacked,
)
from tests.support.packets.filtered_socket import FilteredSocket

MAC, OTHER_MAC, EVERYBODY = "02:00:00:00:00:07", "02:00:00:00:00:08", "ff:ff:ff:ff:ff:ff"
OWN, OTHER = "10.32.0.7", "10.32.0.8"
OWN6, OTHER6, ALL_NODES = "fd00:32::7", "fd00:32::8", "ff02::1"
LINK_LOCAL, OTHER_LINK_LOCAL = "fe80::ff:fe00:7", "fe80::ff:fe00:8"
PROGRAM = assembled(program(MacAddress(MAC), [IPv4Address(OWN), IPv6Address(OWN6)]))
ETHERNET_SIZE = 14


class Guard:
    """The program, attached to a socket: 0, which lets a frame pass, keeps nothing, and anything else some of it."""

    def __init__(self, filtered: FilteredSocket) -> None:
        self._filtered = filtered

    def passes(self, frame: Packet | bytes) -> bool:
        """Tell whether the guard lets a frame pass."""
        return self._filtered.keeps(frame) is None


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    with FilteredSocket(PROGRAM) as filtered:
        yield Guard(filtered)


def ethernet(source: str = MAC) -> Packet:
    return Ether(src=source, dst=EVERYBODY)


def arp(**fields: object) -> Packet:
    message = ARP(op=2, hwsrc=MAC, psrc=OWN, hwdst=EVERYBODY, pdst=OTHER)
    for name, value in fields.items():
        setattr(message, name, value)
    return ethernet() / message


def ipv6(source: str = OWN6, to: str = ALL_NODES, nh: int | None = None) -> Packet:
    packet = IPv6(src=source, dst=to, hlim=255)
    if nh is not None:
        packet.nh = nh
    return ethernet() / packet


def advertisement(target: str) -> Packet:
    return ICMPv6ND_NA(tgt=target, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=MAC)


def behind(headers: Sequence[Header], message: Packet, kind: int = ICMPV6, source: str = OWN6) -> Packet:
    return ethernet() / stacked(headers, message, kind, source, ALL_NODES)


STACKS = [headers for depth in range(4) for headers in product((*READ_OVER, WHOLE, FIRST), repeat=depth)]
LIES = {
    "advertisement": (OWN6, advertisement(OTHER6)),
    "link-local advertisement": (LINK_LOCAL, advertisement(OTHER6)),
    "advertisement of the other's link-local": (OWN6, advertisement(OTHER_LINK_LOCAL)),
    "router advertisement": (LINK_LOCAL, ICMPv6ND_RA() / ICMPv6NDOptPrefixInfo(prefix="2001:db8::", prefixlen=64)),
    "redirect": (LINK_LOCAL, ICMPv6ND_Redirect(tgt=LINK_LOCAL, dst=OTHER6)),
    "question whether the other's is taken": ("::", ICMPv6ND_NS(tgt=OTHER6)),
}

PASSING = {
    "ARP reply": arp(),
    "ARP request": arp(op=1),
    "gratuitous ARP reply": arp(pdst=OWN),
    "gratuitous ARP request": arp(op=1, pdst=OWN),
    "whether an address is taken": arp(op=1, psrc="0.0.0.0"),
    "padded ARP": Raw(bytes(arp()) + bytes(18)),
    "TCP": ethernet() / IP(src=OWN, dst=OTHER) / TCP(),
    "UDP": ethernet() / IP(src=OWN, dst=OTHER) / UDP(sport=53) / b"data",
    "ping": ethernet() / IP(src=OWN, dst=OTHER) / ICMP(),
    "IPv4 with options": ethernet() / IP(src=OWN, dst=OTHER, options=[b"\x01" * 8]) / UDP(sport=7),
    "a later fragment": ethernet() / IP(src=OWN, dst=OTHER, proto=17, frag=3) / b"\0\x43data",
    "VRRP": ethernet() / IP(src=OWN, dst="224.0.0.18", proto=112, ttl=255) / bytes(20),
    "TCP over IPv6": ipv6(to=OTHER6) / TCP(),
    "UDP over IPv6": ipv6(to=OTHER6) / UDP(sport=53),
    "ESP": ipv6(to=OTHER6, nh=50) / Raw(bytes(40)),
    "nothing": ipv6(nh=59),
    "echo request": ipv6(to=OTHER6) / ICMPv6EchoRequest(),
    "own advertisement": ipv6() / advertisement(OWN6),
    "link-local advertisement": ipv6(LINK_LOCAL) / advertisement(LINK_LOCAL),
    "of the other by the link-local": ipv6(LINK_LOCAL) / advertisement(OWN6),
    "solicitation": ipv6(to="ff02::1:ff00:8") / ICMPv6ND_NS(tgt=OTHER6),
    "link-local solicitation": ipv6(LINK_LOCAL) / ICMPv6ND_NS(tgt=OTHER6),
    "whether its own is taken": ipv6("::") / ICMPv6ND_NS(tgt=OWN6),
    "whether its link-local is taken": ipv6("::") / ICMPv6ND_NS(tgt=LINK_LOCAL),
    "router solicitation": ipv6(LINK_LOCAL) / ICMPv6ND_RS(),
    "router solicitation without address": ipv6("::") / ICMPv6ND_RS(),
    "multicast listener": behind([HOP_BY_HOP], ICMPv6MLReport2(), source=LINK_LOCAL),
    "multicast listener without address": behind([HOP_BY_HOP], ICMPv6MLReport2(), source="::"),
    "first fragment": behind([FIRST], UDP(sport=53) / Raw(bytes(1200)), UDP_KIND),
    "later fragment": behind([LATER], Raw(bytes(100)), UDP_KIND),
    "later fragment of any kind": behind([LATER], advertisement(OTHER6)),
    "fragmented ping": behind([FIRST], ICMPv6EchoRequest(data=bytes(1200))),
    "own advertisement behind options": behind([HOP_BY_HOP, LONG_OPTIONS], advertisement(OWN6)),
    "UDP behind four": behind([HOP_BY_HOP, OPTIONS, FIRST, LONG_OPTIONS], UDP(sport=53), UDP_KIND),
}

DROPPED = {
    "another MAC": ethernet(OTHER_MAC) / IP(src=OWN, dst=OTHER) / UDP(),
    "ARP of another": arp(psrc=OTHER),
    "ARP request of another": arp(op=1, psrc=OTHER, pdst=OTHER),
    "ARP with another MAC": arp(hwsrc=OTHER_MAC),
    "ARP of IEEE 802": arp(hwtype=6),
    "ARP of another protocol": arp(ptype=0x86DD),
    "ARP with a long hardware address": arp(hwlen=8),
    "ARP with a short hardware address": Raw(bytes(arp(hwlen=2))),
    "ARP with a long protocol address": arp(plen=16),
    "ARP cut short": Raw(bytes(arp())[:41]),
    "ARP behind a tag": Ether(src=MAC, dst=EVERYBODY) / Dot1Q(vlan=5) / ARP(op=2, hwsrc=MAC, psrc=OTHER),
    "ARP behind two tags": Ether(src=MAC, dst=EVERYBODY) / Dot1AD(vlan=5) / Dot1Q(vlan=5) / ARP(psrc=OTHER),
    "ARP in SNAP": Dot3(src=MAC, dst=EVERYBODY) / LLC() / SNAP() / ARP(op=2, hwsrc=MAC, psrc=OTHER, pdst=OTHER),
    "STP": Dot3(src=MAC, dst="01:80:c2:00:00:00") / LLC() / STP(),
    "LLDP": Ether(src=MAC, dst="01:80:c2:00:00:0e", type=0x88CC) / bytes(40),
    "RARP": Ether(src=MAC, dst=EVERYBODY, type=0x8035) / ARP(),
    "MPLS": Ether(src=MAC, dst=EVERYBODY, type=0x8847) / bytes(40),
    "PPPoE discovery": Ether(src=MAC, dst=EVERYBODY, type=0x8863) / bytes(40),
    "only Ethernet": ethernet(),
    "IPv4 of another": ethernet() / IP(src=OTHER, dst=OWN) / UDP(),
    "IPv4 cut short": Raw(bytes(ethernet() / IP(src=OWN, dst=OTHER))[: ETHERNET_SIZE + 19]),
    "UDP cut short": Raw(bytes(ethernet() / IP(src=OWN, dst=OTHER) / UDP())[: ETHERNET_SIZE + 21]),
    "UDP behind a header that is not there": ethernet() / IP(src=OWN, dst=OTHER, ihl=15, proto=17),
    "DHCP request": ethernet() / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67),
    "DHCP answer": ethernet() / IP(src=OWN, dst=OTHER) / UDP(sport=67, dport=68),
    "DHCP answer behind options": ethernet() / IP(src=OWN, dst=OTHER, options=[b"\x01" * 8]) / UDP(sport=67, dport=68),
    "DHCP answer in fragments": ethernet() / IP(src=OWN, dst=OTHER, flags="MF") / UDP(sport=67, dport=68) / bytes(80),
    "DHCPv6 answer": ipv6(LINK_LOCAL) / UDP(sport=547, dport=546),
    "DHCPv6 answer behind options": behind([OPTIONS], UDP(sport=547), UDP_KIND),
    "DHCPv6 answer in fragments": behind([FIRST], UDP(sport=547), UDP_KIND),
    "IPv6 of another": ipv6(OTHER6) / UDP(),
    "link-local of another": ipv6(OTHER_LINK_LOCAL) / UDP(),
    "any link-local": ipv6("fe80::66") / ICMPv6ND_NS(tgt=OTHER6),
    "the gateway's link-local": ipv6("fe80::1") / ICMPv6EchoRequest(),
    "UDP from nowhere": ipv6("::") / UDP(),
    "echo request from nowhere": ipv6("::") / ICMPv6EchoRequest(),
    "advertisement from nowhere": ipv6("::") / advertisement(OTHER6),
    "later fragment from nowhere": behind([LATER], advertisement(OTHER6), source="::"),
    "whether another's is taken": ipv6("::") / ICMPv6ND_NS(tgt=OTHER6),
    "IPv6 cut short": Raw(bytes(ipv6())[: ETHERNET_SIZE + 39]),
    "own advertisement in a fragment": behind([WHOLE], advertisement(OWN6)),
    "advertisement cut short": Raw(bytes(ipv6() / advertisement(OWN6))[: ETHERNET_SIZE + 40 + 23]),
    "UDP behind five": behind([OPTIONS] * 5, UDP(sport=53), UDP_KIND),
    "options cut short": Raw(bytes(behind([OPTIONS], UDP(), UDP_KIND))[: ETHERNET_SIZE + 40 + 7]),
    "options longer than the frame": ipv6(nh=60) / Raw(bytes([ICMPV6, 255]) + bytes(60)),
    "a first fragment of options alone": behind([FIRST, OPTIONS], Raw()),
    "a first fragment of nothing": behind([FIRST], Raw()),
    "router renumbering": ipv6(nh=ICMPV6) / Raw(bytes([138]) + bytes(31)),
}


@pytest.mark.parametrize("frame", PASSING.values(), ids=PASSING)
def test_what_a_container_says_for_itself_passes(guard: Guard, frame: Packet) -> None:
    assert guard.passes(frame)


@pytest.mark.parametrize("frame", DROPPED.values(), ids=DROPPED)
def test_what_it_has_no_right_to_say_is_dropped(guard: Guard, frame: Packet) -> None:
    assert not guard.passes(frame)


def test_only_the_ethertypes_of_the_network_pass_beside(guard: Guard) -> None:
    frames = [Ether(src=MAC, dst=EVERYBODY, type=kind) / Raw(bytes(46)) for kind in (0x88B5, 0x88B6)]
    frames.append(Ether(src=OTHER_MAC, dst=EVERYBODY, type=0x88B5) / Raw(bytes(46)))
    code = assembled(program(MacAddress(MAC), [IPv4Address(OWN)], frozenset({0x88B5})))
    with FilteredSocket(code) as filtered:
        assert [Guard(filtered).passes(frame) for frame in frames] == [True, False, False]
    assert [guard.passes(frame) for frame in frames] == [False, False, False]


@pytest.mark.parametrize(("source", "lie"), LIES.values(), ids=LIES)
def test_no_stack_of_headers_hides_a_lie(guard: Guard, source: str, lie: Packet) -> None:
    assert [stack for stack in STACKS if guard.passes(behind(stack, lie, source=source))] == []


@pytest.mark.parametrize("header", UNREADABLE, ids=lambda header: header.name)
def test_what_cannot_be_read_over_is_dropped(guard: Guard, header: Header) -> None:
    for stack in STACKS:
        if len(stack) < 3:
            assert not guard.passes(behind([*stack, header], UDP(sport=53), UDP_KIND))


@given(
    st.lists(st.sampled_from((*READ_OVER, WHOLE, FIRST, *UNREADABLE)), max_size=8),
    st.binary(max_size=64),
    st.integers(),
)
def test_no_frame_with_an_advertisement_for_another_passes(
    guard: Guard, headers: list[Header], behind_it: bytes, cut: int
) -> None:
    frame = bytes(behind(headers, advertisement(OTHER6) / Raw(behind_it)))
    assert not guard.passes(frame[: len(frame) - cut % (len(behind_it) + 1)])
