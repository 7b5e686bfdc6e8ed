"""What the probe for segments sends, as scapy decodes it."""

from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from overlayd.agent.probes.remote_kernel import ProbeRoute
from overlayd.agent.probes.segment import SegmentPath, message
from overlayd.kernel.packets.checksum import internet_checksum
from overlayd.model.ids import InterfaceName

OFFLOADS = 10
"""Bytes of struct virtio_net_hdr before the frame."""

MTU = 1450
WAYS = {
    "IPv4": ProbeRoute(ip_address("10.32.0.1"), ip_address("10.32.1.1")),
    "IPv6": ProbeRoute(ip_address("fd00:32::1"), ip_address("fd00:32:0:1::1")),
}


@pytest.fixture(params=WAYS, ids=str)
def path(request: pytest.FixtureRequest) -> SegmentPath:
    return SegmentPath(WAYS[request.param], InterfaceName("ov100"), MTU)


def checksums_as_scapy_makes_them(frame: bytes) -> Packet:
    packet = Ether(frame)
    for layer in (IP, TCP):
        if layer in packet:
            del packet[layer].chksum
    return Ether(bytes(packet))


def test_one_segment_is_a_whole_packet_of_the_largest_size_that_nobody_has_to_change(path: SegmentPath) -> None:
    content = message(path, 1, 7, 2000)
    assert content[:OFFLOADS] == bytes(OFFLOADS)
    frame = content[OFFLOADS:]
    assert frame == bytes(checksums_as_scapy_makes_them(frame))
    packet = Ether(frame)
    assert len(packet.payload) == MTU
    layer = packet[IP] if IP in packet else packet[IPv6]
    assert (layer.src, layer.dst) == (str(path.way.source), str(path.way.target))
    assert (packet[TCP].sport, packet[TCP].seq, packet[TCP].flags) == (2000, 7, "P")


def test_two_as_one_say_how_they_are_cut_and_how_their_checksum_is_made(path: SegmentPath) -> None:
    content = message(path, 2, 7, 2000)
    offloads, frame = content[:OFFLOADS], content[OFFLOADS:]
    lengths = [int.from_bytes(offloads[at : at + 2], "little") for at in range(2, OFFLOADS, 2)]
    headers, size, begin, offset = lengths
    packet = Ether(frame)
    assert offloads[:2] == bytes([1, 1 if IP in packet else 4])  # VIRTIO_NET_HDR_F_NEEDS_CSUM, GSO_TCPV4 or GSO_TCPV6
    assert headers + size - 14 == MTU
    assert len(frame) == headers + 2 * size
    whole = checksums_as_scapy_makes_them(frame)
    assert internet_checksum(frame[begin:]).to_bytes(2, "big") == bytes(whole)[begin + offset : begin + offset + 2]
