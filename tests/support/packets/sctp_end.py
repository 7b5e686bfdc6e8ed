"""Both ends of an SCTP association, made by the test: the kernel of the lab has no sockets of that protocol.

It tracks and translates it all the same. Where the kernel's own SCTP is loaded, it answers packets itself (ABORT).
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from types import TracebackType
from typing import Self

from scapy.layers.sctp import (
    SCTP,
    SCTPChunkCookieAck,
    SCTPChunkCookieEcho,
    SCTPChunkInit,
    SCTPChunkInitAck,
    SCTPChunkParamStateCookie,
)
from scapy.packet import Packet

from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.spaces import namespaces
from overlayd.model.address import IpAddress

_PACKET_MAX = 65535
_PATIENCE = 1.0
"""Seconds to wait for a packet that may never come."""

_WINDOW = 1 << 16
_COOKIE = b"four bytes and a few more"
_INITIATOR, _RESPONDER = 0x11111111, 0x22222222
"""Verification tags (RFC 9260 section 5.3.1): each end puts into its packets the one that the other has chosen."""


class SctpEnd:
    """A raw socket in a network namespace that gets every SCTP packet which arrives there."""

    def __init__(self, namespace: NamespaceRef, version: int) -> None:
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        with namespaces.descriptor(namespace) as fd, namespaces.entered(fd):
            self._socket = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_SCTP)
        self._socket.settimeout(_PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, packet: Packet, to: IpAddress) -> None:
        self._socket.sendto(bytes(packet), (str(to), 0))

    def receive(self, port: int, chunk: type[Packet]) -> tuple[SCTP, IpAddress]:
        """Return the next packet to a port that begins with such a chunk, and its source; TimeoutError without one.

        A packet with a wrong checksum fails the test: every translation must write another one.
        """
        while True:
            data, (source, *_) = self._socket.recvfrom(_PACKET_MAX)
            if isinstance(address := ip_address(source), IPv6Address):
                packet = SCTP(data)
            else:
                packet = SCTP(data[4 * (data[0] & 15) :])  # the kernel gives the IPv4 header too
            if packet.dport == port and isinstance(packet.payload, chunk):
                whole = packet.copy()
                del whole.chksum
                assert SCTP(bytes(whole)).chksum == packet.chksum, packet.show(dump=True)
                return packet, address


def associate(client: SctpEnd, at: IpAddress, port: int, server: SctpEnd, server_port: int) -> IpAddress | None:
    """Open an association with a port in four steps (RFC 9260 section 5.1); return the address that the server sees.

    None: the first packet does not arrive. Each later one must, and must come from where the client has sent to.
    """
    own = 40000
    header = SCTP(sport=own, dport=port)
    client.send(
        header / SCTPChunkInit(init_tag=_INITIATOR, init_tsn=1, a_rwnd=_WINDOW, n_out_streams=1, n_in_streams=1), at
    )
    try:
        init, seen = server.receive(server_port, SCTPChunkInit)
    except TimeoutError:
        return None
    back = SCTP(sport=server_port, dport=init.sport, tag=_INITIATOR)
    cookie = SCTPChunkParamStateCookie(cookie=_COOKIE)
    chunk = SCTPChunkInitAck(
        init_tag=_RESPONDER, init_tsn=1, a_rwnd=_WINDOW, n_out_streams=1, n_in_streams=1, params=[cookie]
    )
    server.send(back / chunk, seen)
    answer, source = client.receive(own, SCTPChunkInitAck)
    assert (source, answer.sport, answer.tag, answer.init_tag) == (at, port, _INITIATOR, _RESPONDER)
    client.send(SCTP(sport=own, dport=port, tag=_RESPONDER) / SCTPChunkCookieEcho(cookie=_COOKIE), at)
    echo, again = server.receive(server_port, SCTPChunkCookieEcho)
    assert (again, echo.sport, echo.tag) == (seen, init.sport, _RESPONDER)
    server.send(back / SCTPChunkCookieAck(), seen)
    end, source = client.receive(own, SCTPChunkCookieAck)
    assert (source, end.sport, end.tag) == (at, port, _INITIATOR)
    return seen


@contextmanager
def sctp_ends(client: NamespaceRef, server: NamespaceRef, version: int) -> Iterator[tuple[SctpEnd, SctpEnd]]:
    """Make an end in each of two namespaces, for IP of this version."""
    with SctpEnd(client, version) as one, SctpEnd(server, version) as other:
        yield one, other
