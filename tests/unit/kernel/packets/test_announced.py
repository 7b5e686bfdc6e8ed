"""Which frames announce a shared address, by the program that a socket at a bridge has."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from overlayd.kernel.packets.announced import announced, program
from overlayd.kernel.packets.classic_bpf import assembled
from tests.support.packets.filtered_socket import FilteredSocket

MAC, EVERYBODY = "02:00:00:00:00:07", "ff:ff:ff:ff:ff:ff"
SHARED, SHARED_TOO, SHARED6, OTHER, OTHER6 = "10.32.0.7", "10.32.0.9", "fd00:32::7", "10.32.0.8", "fd00:32::8"
PROGRAM = assembled(program([IPv4Address(SHARED), IPv6Address(SHARED6), IPv4Address(SHARED_TOO)]))


def arp(operation: int, sender: str, target: str) -> Packet:
    return Ether(src=MAC, dst=EVERYBODY) / ARP(op=operation, hwsrc=MAC, psrc=sender, pdst=target)


def advertisement(target: str, solicited: int = 0) -> Packet:
    message = ICMPv6ND_NA(tgt=target, R=0, S=solicited, O=1) / ICMPv6NDOptDstLLAddr(lladdr=MAC)
    return Ether(src=MAC, dst="33:33:00:00:00:01") / IPv6(src=target, dst="ff02::1", hlim=255) / message


ANNOUNCEMENTS = {
    "ARP request": (arp(1, SHARED, SHARED), SHARED),
    "ARP reply": (arp(2, SHARED, SHARED), SHARED),
    "another address": (arp(1, SHARED_TOO, SHARED_TOO), SHARED_TOO),
    "advertisement": (advertisement(SHARED6), SHARED6),
}
OTHERS = {
    "a question": arp(1, OTHER, SHARED),
    "a question of the holder": arp(1, SHARED, OTHER),
    "whether it is taken": arp(1, "0.0.0.0", SHARED),
    "an address that is not shared": arp(1, OTHER, OTHER),
    "an advertisement that was asked for": advertisement(SHARED6, solicited=1),
    "an advertisement of another": advertisement(OTHER6),
    "a solicitation": Ether(src=MAC) / IPv6(src=SHARED6, dst=OTHER6) / ICMPv6ND_NS(tgt=SHARED6),
    "IPv4": Ether(src=MAC, dst=EVERYBODY) / IP(src=SHARED, dst=SHARED) / UDP() / bytes(30),
    "UDP": Ether(src=MAC) / IPv6(src=SHARED6, dst=SHARED6) / UDP() / bytes(60),
    "a short one": Raw(bytes(arp(1, SHARED, SHARED))[:40]),
}


@pytest.mark.parametrize(("frame", "address"), ANNOUNCEMENTS.values(), ids=ANNOUNCEMENTS)
def test_an_announcement_is_heard(frame: Packet, address: str) -> None:
    with FilteredSocket(PROGRAM) as heard:
        kept = heard.keeps(frame)
    assert kept is not None
    mac, announced_address = announced(kept)
    assert (mac, str(announced_address)) == (MAC, address)


@pytest.mark.parametrize("frame", OTHERS.values(), ids=OTHERS)
def test_nothing_else_is(frame: Packet) -> None:
    with FilteredSocket(PROGRAM) as heard:
        assert heard.keeps(frame) is None
