"""Connection tracking: deletes flows whose translation is outdated, after a published port was added or removed.

The kernel chooses a flow's translation with its first packet, and UDP and SCTP clients may send for ever from one port.
So entries that contradict the present rules are deleted; the next packet is translated as a new flow. Names are those
of linux/netfilter/nfnetlink_conntrack.h.
"""

import errno
import socket
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass

from overlayd.dataplane.redirection import Redirection
from overlayd.kernel import nfnetlink
from overlayd.kernel.netlink import requests
from overlayd.kernel.netlink.decoding import address_reading
from overlayd.kernel.netlink.framing import NLA_F_NESTED, NLM_F_DUMP, attribute, attributes, packed_number
from overlayd.kernel.netlink.transport import Netlink, open_socket
from overlayd.kernel.port import KernelError
from overlayd.model.address import Family, IpAddress
from overlayd.model.published_port import TransportProtocol

_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_ID, _CTA_ZONE, _CTA_FILTER = 1, 2, 12, 18, 25
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT = 1, 2, 3
_CTA_FILTER_ORIG_FLAGS = 1
_F_PROTO_NUM, _F_PROTO_DST_PORT = 1 << 3, 1 << 5
"""CTA_FILTER_F_CTA_PROTO_NUM and _DST_PORT (net/netfilter/nf_internals.h), since Linux 5.8; older kernels dump all."""

_PORT = struct.Struct("!H")
_FAMILIES = {Family.V4: socket.AF_INET, Family.V6: socket.AF_INET6}
_SOURCES, _DESTINATIONS = {Family.V4: 1, Family.V6: 3}, {Family.V4: 2, Family.V6: 4}
"""CTA_IP_V4_SRC, CTA_IP_V6_SRC and CTA_IP_V4_DST, CTA_IP_V6_DST."""

_NUMBERS = {TransportProtocol.UDP: socket.IPPROTO_UDP, TransportProtocol.SCTP: socket.IPPROTO_SCTP}

_DUMPS_MAX = 16
"""Ports that are asked for one by one: the kernel goes through its whole table each time, which takes milliseconds."""

SocketAddress = tuple[IpAddress, int]
_Flow = tuple[Family, TransportProtocol]


@dataclass(frozen=True, slots=True)
class _TrackedFlow:
    """The destination of a flow's first packet, the source of its answers, and the entry's identifying attributes."""

    to: SocketAddress
    answered_from: SocketAddress
    key: bytes


def forget_misled(netlink: Netlink, changed: Collection[Redirection], rules: Collection[Redirection]) -> None:
    """Delete the entries of flows to the ports of `changed` that contradict the `rules` in force.

    The caller's thread is in the namespace of the socket, which is of the protocol NETLINK_NETFILTER. A kernel that
    does not report its connections (CONFIG_NF_CT_NETLINK) keeps the entries until they expire. Raises `KernelError`.
    """
    if not changed:
        return
    local = _local_addresses()
    deletions = []
    for flow in sorted({(each.family, each.transport) for each in changed}):
        of_flow = [each for each in changed if (each.family, each.transport) == flow]
        leading = [each for each in rules if (each.family, each.transport) == flow]
        deletions += [
            flow_deletion(flow[0], entry.key)
            for entry in _entries(netlink, flow, {each.port for each in of_flow})
            if any(_concerns(each, entry.to, local) for each in of_flow)
            and entry.answered_from not in _right_answers(entry.to, leading, local)
        ]
    for error in netlink.batch(deletions).values():
        if error.errno != errno.ENOENT:
            raise error


def _right_answers(
    to: SocketAddress, rules: Collection[Redirection], local: Callable[[IpAddress], bool]
) -> set[SocketAddress]:
    """Return the sources of answers by these rules, of which those for one address precede those for all addresses."""
    found = [each for each in rules if _concerns(each, to, local)]
    first = [each for each in found if each.at] or found
    return {(each.target, each.target_port) for each in first} or {to}


def _concerns(rule: Redirection, to: SocketAddress, local: Callable[[IpAddress], bool]) -> bool:
    address, port = to
    return port == rule.port and (address == rule.at if rule.at else local(address))


def _local_addresses() -> Callable[[IpAddress], bool]:
    """Return a function that decides whether an address is local in the calling thread's namespace."""
    with closing(open_socket()) as channel:
        netlink = Netlink(channel)
        found = {
            address_reading.local_address(payload) for each in requests.ADDRESSES for payload in netlink.dump(each)
        }
    return lambda address: address.is_loopback or address in found


def _entries(netlink: Netlink, flow: _Flow, ports: Collection[int]) -> Iterator[_TrackedFlow]:
    """Yield the entries of a family and a transport whose first packet was sent to one of these ports."""
    wanted = {_PORT.pack(port) for port in ports}
    for port in wanted if len(wanted) <= _DUMPS_MAX else (None,):
        try:
            payloads = netlink.dump(flows_request(*flow, port))
        except KernelError as error:
            if error.errno != errno.EINVAL:
                raise
            return  # there is no such subsystem (net/netfilter/nfnetlink.c: nfnetlink_rcv_msg)
        for payload in payloads:
            if entry := _entry(payload, flow, wanted if port is None else {port}):
                yield entry


def _entry(payload: bytes, flow: _Flow, ports: Collection[bytes]) -> _TrackedFlow | None:
    """Return an entry, None when it is of another flow or port, or in a zone, which only foreign rules assign."""
    family, transport = flow
    found = attributes(payload, nfnetlink.NFGENMSG.size)
    original = attributes(found[_CTA_TUPLE_ORIG])
    protocol = attributes(original[_CTA_TUPLE_PROTO])
    port, number = protocol.get(_CTA_PROTO_DST_PORT, b""), protocol[_CTA_PROTO_NUM][0]
    if port not in ports or number != _NUMBERS[transport] or payload[0] != _FAMILIES[family] or _CTA_ZONE in found:
        return None
    reply = attributes(found[_CTA_TUPLE_REPLY])
    answering = attributes(reply[_CTA_TUPLE_PROTO])[_CTA_PROTO_SRC_PORT]
    to = attributes(original[_CTA_TUPLE_IP])[_DESTINATIONS[family]]
    source = attributes(reply[_CTA_TUPLE_IP])[_SOURCES[family]]
    key = attribute(_CTA_TUPLE_ORIG | NLA_F_NESTED, found[_CTA_TUPLE_ORIG]) + attribute(_CTA_ID, found[_CTA_ID])
    return _TrackedFlow(_socket_address(family, to, port), _socket_address(family, source, answering), key)


def _socket_address(family: Family, address: bytes, port: bytes) -> SocketAddress:
    (number,) = _PORT.unpack(port)
    return family.address(int.from_bytes(address)), number


def flow_deletion(family: Family, key: bytes) -> bytes:
    """Return the message that deletes the entry that these attributes name."""
    return nfnetlink.message(nfnetlink.IPCTNL_MSG_CT_DELETE, _FAMILIES[family], key)


def flows_request(family: Family, transport: TransportProtocol, port: bytes | None) -> bytes:
    """Return the request for the entries of a family and a transport, with one destination port or with all of them."""
    protocol = attribute(_CTA_PROTO_NUM, bytes([_NUMBERS[transport]]))
    flags = _F_PROTO_NUM
    if port:
        protocol += attribute(_CTA_PROTO_DST_PORT, port)
        flags |= _F_PROTO_DST_PORT
    original = attribute(_CTA_TUPLE_PROTO | NLA_F_NESTED, protocol)
    wanted = attribute(_CTA_FILTER_ORIG_FLAGS, packed_number(flags))
    body = attribute(_CTA_TUPLE_ORIG | NLA_F_NESTED, original) + attribute(_CTA_FILTER | NLA_F_NESTED, wanted)
    return nfnetlink.message(nfnetlink.IPCTNL_MSG_CT_GET, _FAMILIES[family], body, NLM_F_DUMP)
