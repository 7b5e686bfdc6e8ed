"""A container host and its tunnel end."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from overlayd.model import ids
from overlayd.model.address import Family, IpAddress
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import HostId, HostNumber, MacAddress
from overlayd.model.network import HIDING

_NEXT_HOP_BASES = {Family.V4: int(IPv4Address("169.254.2.0")), Family.V6: int(IPv6Address("fe80::6f76:0"))}
_MULTICAST = int(IPv4Address("224.0.0.0"))
"""From here on there is no unicast address: experimental ones follow."""
_LOOPBACK = 127
_NAME_MAX = 253


class HostState(StrEnum):
    """The life cycle of a host.

    An ACTIVE host gets blocks and accepts attachments. A DRAINING host keeps what it has and gets nothing new. A
    FORGETTING host is gone for good, and its blocks, reservations and credential are being released.
    """

    ACTIVE = "active"
    DRAINING = "draining"
    FORGETTING = "forgetting"


@dataclass(frozen=True, slots=True)
class Vtep:
    """A host's tunnel end (VTEP): its underlay address, and the host number that identifies it in every network.

    MAC and next hops are computed from the host number, so they are not exchanged and do not depend on `address`.
    """

    address: IpAddress
    number: HostNumber

    @property
    def mac(self) -> MacAddress:
        """The MAC of the tunnel end inside networks."""
        octets = ((0x026F76 << 24) | self.number).to_bytes(6, "big")
        return MacAddress(octets.hex(":"))

    def next_hop(self, family: Family) -> IpAddress:
        """Return the link-local address that is the next hop of routes to this host."""
        return family.address(_NEXT_HOP_BASES[family] + self.number)


@dataclass(frozen=True, slots=True)
class Host:
    """A registered host: a stable id, a number that no other host has, a display name and its underlay address."""

    id: HostId
    number: HostNumber
    name: str
    address: IpAddress
    state: HostState = HostState.ACTIVE

    def __post_init__(self) -> None:
        """Raise `InvalidValue` when a field breaks its rule."""
        ids.host_id(self.id)
        ids.host_number(self.number)
        check_host_name(self.name)
        # What earlier releases accepted remains readable: `check_vtep_address` is for an address that is new.
        _check_unicast(self.address, "address")

    @property
    def vtep(self) -> Vtep:
        """The host's tunnel end."""
        return Vtep(self.address, self.number)


def check_host_name(value: str, field: str = "name") -> str:
    """Check a display name: 1..253 printable characters."""
    if not 1 <= len(value) <= _NAME_MAX or not value.isprintable():
        raise InvalidValue(f"{ids.quoted(value)} must have 1 to {_NAME_MAX} printable characters", field=field)
    return value


def check_vtep_address(value: IpAddress, field: str = "address") -> IpAddress:
    """Check that an address can be a VXLAN source and destination: unicast, not loopback, and not IPv6 link-local.

    Those of 0.0.0.0/8 are "this host on this network" (RFC 1122 section 3.2.1.3), and no router forwards to them. ::/8
    is reserved (RFC 4291 section 4), and holds what stands for IPv4 addresses.
    """
    if not value.packed[0]:
        raise _unreachable(value, field)
    return _check_unicast(value, field)


def _check_unicast(value: IpAddress, field: str) -> IpAddress:
    if not _is_unicast(value):
        raise _unreachable(value, field)
    return value


def _unreachable(value: IpAddress, field: str) -> InvalidValue:
    return InvalidValue(f"{value} is not a unicast address that other hosts can reach", field=field)


def _is_unicast(value: IpAddress) -> bool:
    if isinstance(value, IPv4Address):  # by number: an agent that starts checks one for each host of the cluster
        number = int(value)
        return 0 < number < _MULTICAST and number >> 24 != _LOOPBACK
    if value.is_multicast or value.is_unspecified or value.is_loopback:
        return False
    # The kernel sends to an IPv4-mapped address over IPv4. Addresses in HIDING exist inside one host only.
    return not value.is_link_local and value.ipv4_mapped is None and value not in HIDING[Family.V6]
