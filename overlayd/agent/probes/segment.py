"""The segment probe: whether data that a device below the tunnel must cut into segments arrives.

A TCP segment that belongs to no connection is refused by the other host's kernel, which acknowledges what it got (RFC
9293 section 3.10.7.1). One that fits is sent first: where that is not answered, a larger one proves nothing.
"""

import asyncio
import socket
import struct
from contextlib import closing
from dataclasses import dataclass
from secrets import randbits

from overlayd.agent.probes.remote_kernel import ProbeRoute, opened, repeated
from overlayd.dataplane import ownership
from overlayd.kernel.packets.checksum import internet_checksum
from overlayd.model.address import Family
from overlayd.model.ids import InterfaceName, packed_mac

_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
"""linux/if_packet.h: each frame is preceded by a struct virtio_net_hdr."""

_OFFLOADS = struct.Struct("=BBHHHH")
"""struct virtio_net_hdr (linux/virtio_net.h): flags, kind of segments, length of the headers, size of the segments,
where the checksum begins and how far behind that it is."""

_NEEDS_CHECKSUM = 1
_TCP_SEGMENTS = {Family.V4: 1, Family.V6: 4}
_ETHERNET = struct.Struct("!6s6sH")
_ETHERTYPES = {Family.V4: 0x0800, Family.V6: 0x86DD}
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_TCP = struct.Struct("!HHIIBBHHH")
_PSEUDO_LENGTH = struct.Struct("!II")
_CHECKSUM_AT = 16
_HEADERS = {Family.V4: _IPV4.size + _TCP.size, Family.V6: _IPV6.size + _TCP.size}
_DONT_FRAGMENT = 0x4000
_HOPS = 64
_WORDS = 5 << 4
"""The length of a TCP header without options."""

_PUSH, _REFUSED = 0x08, 0x14
"""PSH; RST with ACK (RFC 9293 section 3.1)."""

_CLOSED_PORT = 1
_PACKET_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class SegmentPath:
    """A route to a host, the device by which it leaves this host, and the MTU of that device in bytes."""

    way: ProbeRoute
    device: InterfaceName
    mtu: int

    @property
    def segment(self) -> int:
        """How many bytes of data fit into one packet."""
        return self.mtu - _HEADERS[self.way.family]


async def loses_segments(path: SegmentPath) -> bool:
    """Return whether a segment that fits is answered, and one that must be cut in two on the way is not."""
    return await _arrive(path, 1) and not await _arrive(path, 2)


async def _arrive(path: SegmentPath, count: int) -> bool:
    return await repeated(lambda: _acknowledged(path, count))


async def _acknowledged(path: SegmentPath, count: int) -> bool:
    """Send `count` segments as one packet; return whether all of their data is acknowledged."""
    sequence, port = randbits(32), 1024 + randbits(14)
    end = (sequence + count * path.segment) % (1 << 32)
    with closing(opened(path.way, socket.SOCK_RAW, socket.IPPROTO_TCP)) as channel:
        _send(path.device, message(path, count, sequence, port))
        while True:
            packet = await asyncio.get_running_loop().sock_recv(channel, _PACKET_MAX)
            answer = packet[4 * (packet[0] & 15) :] if path.way.family is Family.V4 else packet
            if len(answer) < _TCP.size:
                continue
            _, to, _, acknowledged, _, flags, *_ = _TCP.unpack_from(answer)
            if (to, acknowledged, flags) == (port, end, _REFUSED):
                return True


def _send(device: InterfaceName, content: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as channel:
        channel.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        channel.bind((device, 0))
        channel.send(content)


def message(path: SegmentPath, count: int, sequence: int, port: int) -> bytes:
    """Return the frame with this many segments of data, preceded by the header that says how to cut it. Pure."""
    way, family = path.way, path.way.family
    size = path.segment
    length = _TCP.size + count * size
    data = bytes(count * size)
    pseudo = way.source.packed + way.target.packed + _PSEUDO_LENGTH.pack(length, socket.IPPROTO_TCP)

    def tcp(checksum: int) -> bytes:
        return _TCP.pack(port, _CLOSED_PORT, sequence, 0, _WORDS, _PUSH, 0, checksum, 0)

    headers = _ETHERNET.pack(packed_mac(ownership.GATEWAY_MAC), packed_mac(ownership.HOST_MAC), _ETHERTYPES[family])
    headers += _ip_header(way, length)
    if count == 1:
        return bytes(_OFFLOADS.size) + headers + tcp(internet_checksum(pseudo + tcp(0) + data)) + data
    begin = len(headers)
    offloads = _OFFLOADS.pack(_NEEDS_CHECKSUM, _TCP_SEGMENTS[family], begin + _TCP.size, size, begin, _CHECKSUM_AT)
    # The device that makes the checksum starts from the value in its place: the sum of the pseudo header.
    return offloads + headers + tcp(~internet_checksum(pseudo) & 0xFFFF) + data


def _ip_header(way: ProbeRoute, length: int) -> bytes:
    addresses = (way.source.packed, way.target.packed)
    if way.family is Family.V6:
        return _IPV6.pack(6 << 28, length, socket.IPPROTO_TCP, _HOPS, *addresses)
    total = _IPV4.size + length
    bare = _IPV4.pack(0x45, 0, total, 0, _DONT_FRAGMENT, _HOPS, socket.IPPROTO_TCP, 0, *addresses)
    checksum = internet_checksum(bare)
    return _IPV4.pack(0x45, 0, total, 0, _DONT_FRAGMENT, _HOPS, socket.IPPROTO_TCP, checksum, *addresses)
