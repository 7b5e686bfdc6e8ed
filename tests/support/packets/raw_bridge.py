"""`python -m tests.support.packets.raw_bridge LACK BROKEN GOOD`: copy frames between two devices, until killed.

What comes from the first device lacks what its sender left to the device below the tunnel: that one promises it, and
does not do it. LACK is `checksums`, and everything else gets its checksum; or `segments`, and what is to be cut is lost
if it is in a tunnel. Prints `ready` when it listens.
"""

import select
import socket
import struct
import sys

VXLAN_PORT = 4789

_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 263, 15, 23
_OFFLOADS, _KIND_OF_SEGMENTS = 10, 1
"""Bytes of struct virtio_net_hdr (linux/virtio_net.h), and where it says that there is something to cut."""

_ETHERNET, _IPV4, _IPV4_TYPE = 14, 20, 0x0800
_TUNNEL = 50
"""Bytes of Ethernet, IPv4, UDP and VXLAN before the frame that is inside."""

_CHECKSUM_AT = {socket.IPPROTO_TCP: 16, socket.IPPROTO_UDP: 6}


def opened(device: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    sock.bind((device, 0))
    return sock


def completed(frame: bytes, *, tunnelled: bool) -> bytes:
    """Return the frame with the checksum of its TCP or UDP, if it is IPv4, and in a tunnel if that is to be so."""
    (kind,) = struct.unpack_from("!H", frame, 12)
    if kind != _IPV4_TYPE or len(frame) < _ETHERNET + _IPV4 or frame[_ETHERNET] != 0x45:
        return frame
    protocol = frame[_ETHERNET + 9]
    (length,) = struct.unpack_from("!H", frame, _ETHERNET + 2)
    segment = bytearray(frame[_ETHERNET + _IPV4 : _ETHERNET + length])
    at = _CHECKSUM_AT.get(protocol)
    if protocol == socket.IPPROTO_UDP and struct.unpack_from("!H", segment, 2)[0] == VXLAN_PORT:
        inner = frame[_TUNNEL:]
        return frame[:_TUNNEL] + (completed(inner, tunnelled=False) if tunnelled else inner)
    if at is None:
        return frame
    segment[at : at + 2] = bytes(2)
    pseudo = frame[_ETHERNET + 12 : _ETHERNET + 20] + struct.pack("!HH", protocol, len(segment))
    segment[at : at + 2] = struct.pack("!H", checksum(pseudo + bytes(segment)))
    return frame[: _ETHERNET + _IPV4] + bytes(segment)


def checksum(data: bytes) -> int:
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total = int(sum(words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def is_lost(content: bytes) -> bool:
    """Return whether a frame, behind what is to be done with it, is in a tunnel and to be cut."""
    frame = content[_OFFLOADS:]
    is_tunnelled = frame[_ETHERNET + 9] == socket.IPPROTO_UDP and frame[36:38] == VXLAN_PORT.to_bytes(2, "big")
    return bool(content[_KIND_OF_SEGMENTS]) and is_tunnelled


def main() -> None:
    lack, *devices = sys.argv[1:]
    broken, good = (opened(device) for device in devices)
    if lack == "segments":
        for sock in (broken, good):
            sock.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    ways = {broken: good, good: broken}
    while True:
        for source in select.select(list(ways), [], [])[0]:
            frame = source.recv(1 << 17)
            if lack == "checksums":
                frame = completed(frame, tunnelled=source is good)
            elif source is broken and is_lost(frame):
                continue
            try:
                ways[source].send(frame)
            except OSError:
                continue  # larger than the device takes: lost, as on a wire


if __name__ == "__main__":
    main()
