"""A classic BPF program at the host's end of a veth pair: what does not come from the container's addresses is dropped.

Offsets are those of an Ethernet frame; loads are in network byte order (linux/filter.h, linux/bpf_common.h).
"""

import functools
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from overlayd.dataplane.items import NamespaceRef, SourceGuard
from overlayd.kernel.netlink import HEADER, NLM_F_REQUEST
from overlayd.kernel.qdisc import INGRESS_HANDLE, TCMSG, attribute, attributes
from overlayd.kernel.rtnetlink import RTM_DELQDISC, RTM_NEWQDISC, RTM_NEWTFILTER
from overlayd.model.address import IpAddress
from overlayd.model.ids import InterfaceName, MacAddress

_RTM_GETTFILTER = 46
_NLM_F_REPLACE, _NLM_F_EXCL, _NLM_F_CREATE = 0x100, 0x200, 0x400
_TC_H_INGRESS = 0xFFFFFFF1
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TCA_BPF_OPS_LEN, _TCA_BPF_OPS, _TCA_BPF_FLAGS = 4, 5, 8
_TCA_BPF_FLAG_ACT_DIRECT = 1
_TC_ACT_OK, _TC_ACT_SHOT = 0, 2
_ETH_P_ALL = 3

_LOADS = {4: 0x20, 2: 0x28, 1: 0x30}
_JUMP, _JUMP_IF_EQUAL, _AND, _RETURN = 0x05, 0x15, 0x54, 0x06
_INSTRUCTION = struct.Struct("=HBBI")

_IPV4, _ARP, _IPV6, _VLAN, _SERVICE_VLAN = 0x0800, 0x0806, 0x86DD, 0x8100, 0x88A8
_MAC, _KIND = 6, 12
_IPV4_SOURCE = 14 + 12
_ARP_MAC, _ARP_ADDRESS = 14 + 8, 14 + 14
_IPV6_NEXT_HEADER, _IPV6_SOURCE = 14 + 6, 14 + 8
_ICMPV6_TYPE, _ADVERTISED = 14 + 40, 14 + 40 + 8
_ICMPV6, _NEIGHBOUR_ADVERTISEMENT = 58, 136
_LINK_LOCAL_MASK, _LINK_LOCAL = 0xFFC00000, 0xFE800000


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction; a jump goes on behind the label `then`, or if what was loaded has another value, `otherwise`."""

    code: int
    value: int = 0
    then: str = ""
    otherwise: str = ""


Line = Step | str
"""An instruction, or a label before the next one."""


def messages(item: SourceGuard, index: int) -> tuple[bytes, bytes]:
    """Return the messages that make a device's ingress hook, and put the program there or replace it."""
    head = TCMSG.pack(socket.AF_UNSPEC, 0, 0, index, INGRESS_HANDLE, _TC_H_INGRESS, 0)
    hook = _message(RTM_NEWQDISC, _NLM_F_CREATE | _NLM_F_EXCL, head + attribute(_TCA_KIND, b"ingress\0"))
    code = assembled(program(item.mac, item.addresses))
    options = attribute(_TCA_BPF_OPS_LEN, struct.pack("=H", len(code) // _INSTRUCTION.size))
    options += attribute(_TCA_BPF_OPS, code)
    options += attribute(_TCA_BPF_FLAGS, struct.pack("=I", _TCA_BPF_FLAG_ACT_DIRECT))
    body = _program_of(index)
    body += attribute(_TCA_KIND, b"bpf\0") + attribute(_TCA_OPTIONS, options)
    return hook, _message(RTM_NEWTFILTER, _NLM_F_CREATE | _NLM_F_REPLACE, body)


def request(index: int) -> bytes:
    """Return the message that asks for a device's program."""
    return _message(_RTM_GETTFILTER, 0, _program_of(index))


def observed(ns: NamespaceRef, dev: InterfaceName, answer: bytes | None) -> SourceGuard:
    """Return what a device's program lets in; of what is no program of ours, or of none, nothing."""
    options = attributes(attributes(answer, TCMSG.size).get(_TCA_OPTIONS, b"")) if answer else {}
    mac, addresses = _sources(options.get(_TCA_BPF_OPS, b""))
    return SourceGuard(ns, dev, mac, addresses)


def removal(index: int) -> bytes:
    """Return the message that removes a device's ingress hook, with the program."""
    body = TCMSG.pack(socket.AF_UNSPEC, 0, 0, index, INGRESS_HANDLE, _TC_H_INGRESS, 0)
    return _message(RTM_DELQDISC, 0, body + attribute(_TCA_KIND, b"ingress\0"))


def _program_of(index: int) -> bytes:
    priority = 1 << 16 | socket.htons(_ETH_P_ALL)
    return TCMSG.pack(socket.AF_UNSPEC, 0, 0, index, 1, INGRESS_HANDLE, priority)


@functools.lru_cache(maxsize=1024)
def _sources(code: bytes) -> tuple[MacAddress, frozenset[IpAddress]]:
    """Return the MAC and the addresses that a program looks for, an empty one and none if it is no program of ours."""
    looked_for: dict[int, list[int]] = {}
    offset = -1
    for kind, _, _, value in _INSTRUCTION.iter_unpack(code):
        if kind in _LOADS.values():
            offset = value
        elif kind == _AND:
            offset = -1  # what follows looks at a part of it
        elif kind == _JUMP_IF_EQUAL:
            looked_for.setdefault(offset, []).append(value)
    mac = b"".join(looked_for.get(_MAC + at, [0])[0].to_bytes(4)[-size:] for at, size in ((0, 4), (4, 2)))
    own4 = (IPv4Address(value) for value in looked_for.get(_ARP_ADDRESS, []) if value)
    quarters = (looked_for.get(_ADVERTISED + at, []) for at in range(0, 16, 4))
    own6 = (IPv6Address(struct.pack(">4I", *four)) for four in zip(*quarters, strict=False))
    found = MacAddress(mac.hex(":")), frozenset[IpAddress]((*own4, *own6))
    return found if assembled(program(*found)) == code else (MacAddress(""), frozenset())


def program(mac: MacAddress, addresses: Collection[IpAddress]) -> Iterator[Line]:
    """Yield the program: Ethernet, ARP, IPv4, IPv6 and neighbour advertisements; other protocols pass, VLANs do not."""
    sender = bytes.fromhex(mac.replace(":", ""))
    yield from _unless_mac(_MAC, sender)
    yield Step(_LOADS[2], _KIND)
    for kind, then in ((_IPV4, "ipv4"), (_IPV6, "ipv6"), (_ARP, "arp"), (_VLAN, "drop"), (_SERVICE_VLAN, "drop")):
        yield Step(_JUMP_IF_EQUAL, kind, then)
    yield Step(_JUMP, then="pass")
    own4 = sorted(int(address) for address in addresses if isinstance(address, IPv4Address))
    yield "arp"
    yield from _unless_mac(_ARP_MAC, sender)
    # 0.0.0.0 asks whether an address is taken (RFC 5227).
    yield from _only(_ARP_ADDRESS, [*own4, 0])
    yield "ipv4"
    yield from _only(_IPV4_SOURCE, own4)
    own6 = sorted(address for address in addresses if isinstance(address, IPv6Address))
    yield "ipv6"
    # :: asks whether an address is taken (RFC 4862).
    yield from _only_ipv6(_IPV6_SOURCE, [*own6, IPv6Address(0)], "source")
    for offset, value in ((_IPV6_NEXT_HEADER, _ICMPV6), (_ICMPV6_TYPE, _NEIGHBOUR_ADVERTISEMENT)):
        yield Step(_LOADS[1], offset)
        yield _unless(value, "pass")
    yield from _only_ipv6(_ADVERTISED, own6, "pass")
    yield from ("pass", Step(_RETURN, _TC_ACT_OK), "drop", Step(_RETURN, _TC_ACT_SHOT))


def assembled(lines: Iterable[Line]) -> bytes:
    """Return the program as an array of struct sock_filter."""
    places: dict[str, int] = {}
    steps: list[Step] = []
    for line in lines:
        if isinstance(line, str):
            places[line] = len(steps)
        else:
            steps.append(line)
    code = bytearray()
    for number, step in enumerate(steps, 1):
        then, otherwise = (places[label] - number if label else 0 for label in (step.then, step.otherwise))
        if step.code == _JUMP:
            code += _INSTRUCTION.pack(_JUMP, 0, 0, then)
        else:
            code += _INSTRUCTION.pack(step.code, then, otherwise, step.value)
    return bytes(code)


def _unless(value: int, otherwise: str) -> Step:
    """Return a jump for when what was loaded is not this value."""
    return Step(_JUMP_IF_EQUAL, value, otherwise=otherwise)


def _unless_mac(offset: int, mac: bytes) -> Iterator[Line]:
    for start, size in ((0, 4), (4, 2)):
        yield Step(_LOADS[size], offset + start)
        yield _unless(int.from_bytes(mac[start : start + size]), "drop")


def _only(offset: int, values: Iterable[int]) -> Iterator[Line]:
    yield Step(_LOADS[4], offset)
    yield from (Step(_JUMP_IF_EQUAL, value, "pass") for value in values)
    yield Step(_JUMP, then="drop")


def _only_ipv6(offset: int, addresses: Sequence[IPv6Address], then: str) -> Iterator[Line]:
    """Yield what goes on at a label for one of these addresses, or any link-local one, and drops what has others."""
    yield from (Step(_LOADS[4], offset), Step(_AND, _LINK_LOCAL_MASK), Step(_JUMP_IF_EQUAL, _LINK_LOCAL, then))
    for number, address in enumerate(addresses):
        following = f"{offset} not {number}"
        for start in range(0, 16, 4):
            yield Step(_LOADS[4], offset + start)
            yield _unless(int.from_bytes(address.packed[start : start + 4]), following)
        yield from (Step(_JUMP, then=then), following)
    yield Step(_JUMP, then="drop")
    if then != "pass":
        yield then


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST | flags, 0, 0) + body
