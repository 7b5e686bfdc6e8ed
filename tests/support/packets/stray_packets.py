"""Packets that belong to no connection, from any namespace: segments, and an answer to an echo never asked for.

Runs as root in a process of its own: ``python -m tests.support.packets.stray_packets ADDRESS PORT``, to a TCP server.
"""

import socket
import struct
import sys

from overlayd.kernel.packets.checksum import internet_checksum

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
COUNT = 5
"""How many it sends: RST, FIN, SYN with ACK, an echo reply, and a segment far above a connection's window.

Where that window is, is not known: of two segments half of the numbers apart one is above it. The kernel translates the
other one, which could be sent again.
"""


def _segment(source: str, destination: str, ports: tuple[int, int], sequence: int, flags: int) -> bytes:
    """Return a TCP segment without data (RFC 9293 section 3.1)."""
    is_ipv6 = ":" in source
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    addresses = socket.inet_pton(family, source) + socket.inet_pton(family, destination)

    def header(checksum: int) -> bytes:
        return struct.pack("!HHIIBBHHH", *ports, sequence, 1, 5 << 4, flags, 1024, checksum, 0)

    pseudo = addresses + struct.pack("!II", len(header(0)), socket.IPPROTO_TCP)
    return header(internet_checksum(pseudo + header(0)))


def _send(address: str, port: int) -> None:
    is_ipv6 = ":" in address
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    icmp, reply = (socket.IPPROTO_ICMPV6, 129) if is_ipv6 else (socket.IPPROTO_ICMP, 0)
    bare = struct.pack("!BBHHH", reply, 0, 0, 7, 7)
    checksum = 0 if is_ipv6 else internet_checksum(bare)  # the kernel makes that of ICMPv6
    with (
        socket.create_connection((address, port)) as connection,
        socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP) as tcp,
        socket.socket(family, socket.SOCK_RAW, icmp) as echo,
    ):
        own, own_port = connection.getsockname()[:2]
        for number, flags in enumerate((_RST, _FIN, _SYN | _ACK), start=20000):
            tcp.sendto(_segment(own, address, (number, port), 1, flags), (address, 0))
        for far in (1 << 30, 3 << 30):
            tcp.sendto(_segment(own, address, (own_port, port), far, _ACK), (address, 0))
        echo.sendto(struct.pack("!BBHHH", reply, 0, checksum, 7, 7), (address, 0))


if __name__ == "__main__":
    _send(sys.argv[1], int(sys.argv[2]))
