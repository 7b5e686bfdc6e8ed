"""The frames that announce an address, as scapy reads them."""

from ipaddress import ip_address

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from overlayd.kernel.packets.announce import announcement
from overlayd.model.ids import MacAddress

MAC = MacAddress("02:00:00:00:00:50")


def test_an_ipv4_address_is_announced_by_gratuitous_arp() -> None:
    frame = Ether(announcement(ip_address("10.32.0.50"), MAC))
    assert (frame.src, frame.dst) == (MAC, "ff:ff:ff:ff:ff:ff")
    assert (frame[ARP].op, frame[ARP].hwsrc) == (1, MAC)
    assert frame[ARP].psrc == frame[ARP].pdst == "10.32.0.50"


@pytest.mark.parametrize("address", ["fd00:32::50", "fd00:32:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::"])
def test_an_ipv6_address_is_announced_by_an_advertisement_that_overrides(address: str) -> None:
    frame = Ether(announcement(ip_address(address), MAC))
    assert (frame.src, frame.dst) == (MAC, "33:33:00:00:00:01")
    assert (frame[IPv6].src, frame[IPv6].dst, frame[IPv6].hlim) == (address, "ff02::1", 255)
    advertisement = frame[ICMPv6ND_NA]
    assert (advertisement.tgt, advertisement.R, advertisement.S, advertisement.O) == (address, 0, 0, 1)
    assert frame[ICMPv6NDOptDstLLAddr].lladdr == MAC
    checksum = advertisement.cksum
    del advertisement.cksum
    assert Ether(bytes(frame))[ICMPv6ND_NA].cksum == checksum
