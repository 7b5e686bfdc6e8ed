"""Values as the kernel writes them: numbers, texts, MACs and addresses, and what every message begins with."""

import struct
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from overlayd.kernel.netlink.rtnetlink import IFINFOMSG
from overlayd.model.address import IpAddress, IpInterface, IpNetwork
from overlayd.model.ids import InterfaceName, MacAddress

_NUMBER = struct.Struct("=I")
_IPV4_SIZE = 4

Names = Mapping[int, InterfaceName]
"""Names of one namespace's devices by their indexes."""


def parsed_number(value: bytes | None) -> int:
    """Return a number in host byte order; a missing attribute means 0."""
    return int(_NUMBER.unpack(value)[0]) if value else 0


def parsed_flag(value: bytes | None) -> bool:
    """Return whether a flag of one byte is set; a missing attribute means that it is not."""
    return bool(value) and value != b"\0"


def parsed_text(value: bytes) -> str:
    """Return a text without the zero byte at its end."""
    return value.rstrip(b"\0").decode(errors="replace")


def parsed_mac(value: bytes) -> MacAddress:
    """Return a MAC of six bytes."""
    return MacAddress(value.hex(":"))


def parsed_address(packed: bytes) -> IpAddress:
    """Return an address in network byte order; its length says of which family it is."""
    return IPv4Address(packed) if len(packed) == _IPV4_SIZE else IPv6Address(packed)


def parsed_network(packed: bytes, length: int) -> IpNetwork:
    """Return a range with a prefix of this many bits; raise `ValueError` when bits behind the prefix are set."""
    return IPv4Network((packed, length)) if len(packed) == _IPV4_SIZE else IPv6Network((packed, length))


def family(payload: bytes) -> int:
    """Return the address family, with which every rtnetlink payload begins."""
    return payload[0]


def link_index(payload: bytes) -> int:
    """Return the index of the device of a link or a neighbour message: both have it at the same offset."""
    return int(IFINFOMSG.unpack_from(payload)[3])


def parsed_interface(packed: bytes, length: int) -> IpInterface:
    """Return an address with a prefix of this many bits."""
    return IPv4Interface((packed, length)) if len(packed) == _IPV4_SIZE else IPv6Interface((packed, length))
