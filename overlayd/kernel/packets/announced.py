"""Receives announcements of addresses on a segment: gratuitous ARP, unsolicited neighbour advertisements."""

import errno
import socket
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv6Address

from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.packets import socket_filter
from overlayd.kernel.packets.classic_bpf import (
    AND,
    INDEX_LOADED,
    JUMP_IF_INDEX,
    LOADS,
    RETURN,
    Line,
    Step,
    to,
    unless,
    when,
    when_words,
)
from overlayd.kernel.port import KernelError
from overlayd.kernel.spaces import namespaces
from overlayd.model.address import IpAddress
from overlayd.model.ids import InterfaceName, MacAddress

_ETH_P_ALL, _ETH_P_ARP, _ETH_P_IPV6 = 0x0003, 0x0806, 0x86DD
_SOURCE, _KIND = 6, 12
_ARP_SENDER, _ARP_TARGET = 14 + 14, 14 + 24
_NEXT_HEADER, _ICMPV6_TYPE, _FLAGS, _TARGET = 14 + 6, 14 + 40, 14 + 44, 14 + 48
_ICMPV6, _NEIGHBOUR_ADVERTISEMENT, _SOLICITED = 58, 136, 0x40
_FRAME = 128
"""Bytes of a frame that are kept: more than the target of an advertisement ends at."""

_KEEP, _DROP = Step(RETURN, _FRAME), Step(RETURN)


def receiving(ns: NamespaceRef, dev: InterfaceName, addresses: Collection[IpAddress]) -> socket.socket:
    """Return a socket that receives the announcements of these addresses at a device; the caller closes it.

    Raises `KernelError`.
    """
    sock = None
    try:
        with namespaces.descriptor(ns) as fd, namespaces.entered(fd):
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC)
        # Without a protocol nothing is queued before the filter is there.
        socket_filter.attach(sock, program(addresses))
        sock.bind((dev, _ETH_P_ALL))
        sock.setblocking(False)  # noqa: FBT003 - the library's own
    except OSError as error:
        if sock is not None:
            sock.close()
        raise KernelError(error.errno or errno.EIO, f"packet socket at {dev} in {ns}: {error.strerror}") from error
    return sock


def program(addresses: Collection[IpAddress]) -> Iterator[Line]:
    """Yield the program that keeps the announcements of these addresses and nothing else."""
    yield Step(LOADS[2], _KIND)
    yield from (*when(_ETH_P_ARP, to("ARP")), *unless(_ETH_P_IPV6, _DROP))
    yield from (Step(LOADS[1], _NEXT_HEADER), *unless(_ICMPV6, _DROP))
    yield from (Step(LOADS[1], _ICMPV6_TYPE), *unless(_NEIGHBOUR_ADVERTISEMENT, _DROP))
    yield from (Step(LOADS[1], _FLAGS), Step(AND, _SOLICITED), *unless(0, _DROP))
    for address in addresses:
        if isinstance(address, IPv6Address):
            yield from when_words(address.packed, LOADS, _TARGET, _KEEP)
    yield from (_DROP, "ARP", Step(LOADS[4], _ARP_SENDER), Step(INDEX_LOADED))
    yield from (Step(LOADS[4], _ARP_TARGET), Step(JUMP_IF_INDEX, then=1), _DROP)
    for address in addresses:
        if isinstance(address, IPv4Address):
            yield from when(int(address), _KEEP)
    yield _DROP


def announced(frame: bytes) -> tuple[MacAddress, IpAddress]:
    """Return the MAC and the address in a frame that the program keeps."""
    mac = MacAddress(frame[_SOURCE:_KIND].hex(":"))
    if int.from_bytes(frame[_KIND : _KIND + 2]) == _ETH_P_ARP:
        return mac, IPv4Address(frame[_ARP_TARGET : _ARP_TARGET + 4])
    return mac, IPv6Address(frame[_TARGET : _TARGET + 16])
