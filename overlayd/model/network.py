"""A network: an isolated address space that containers on any host can join."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import combinations
from types import MappingProxyType

from overlayd.model import ids
from overlayd.model.address import Family, IpAddress, IpNetwork, contains, overlap
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import HostId, NetworkName, Vni

RANGE_LENGTH_MIN = {Family.V4: 8, Family.V6: 16}
BLOCK_LENGTH_MAX = {Family.V4: 29, Family.V6: 125}
"""The smallest block has eight addresses: fewer would leave none for containers beside the reserved ones."""

POOLS_MAX = 16
RESERVED_MAX = 256
ETHERTYPES_MAX = 16

GATEWAY_NUMBERS: tuple[int, ...] = (1, *range(3, 255))
"""The numbers of networks' gateways; 2 is the host's end of every uplink (169.254.1.2 and fe80::2)."""

_GATEWAYS: Mapping[Family, int] = MappingProxyType(
    {Family.V4: int(IPv4Address("169.254.1.0")), Family.V6: int(IPv6Address("fe80::"))}
)

_ETHERTYPE_MIN = 0x0600
"""Smaller numbers are the length of a frame (IEEE 802.3 clause 3.2.6)."""

_ALWAYS_PASS = frozenset({0x0800, 0x0806, 0x86DD})
_TAGS = frozenset({0x8100, 0x88A8, 0x9100})
"""IPv4, ARP and IPv6 always pass, with a checked source. VLAN tags would hide those from the check."""

HIDING: Mapping[Family, IpNetwork] = MappingProxyType(
    {Family.V4: IPv4Network("241.0.0.0/8"), Family.V6: IPv6Network("fd6f:7665:726c:6179::/64")}
)
"""The ranges from which an isolated network gets the address that hides it from its host: prefix plus VNI (24 bits).

The link-local range of IPv4 has only 16 bits, and cloud providers use some of it. 240.0.0.0/4 is reserved for future
use (RFC 1112 section 4): the kernel forwards it, no network routes it, and these addresses never leave the host.
"""

_UNUSABLE: tuple[IpNetwork, ...] = (
    *(IPv4Network(cidr) for cidr in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")),
    *(IPv6Network(cidr) for cidr in ("::/8", "fe80::/10", "ff00::/8")),
    HIDING[Family.V6],
)
"""::/8 holds the unspecified and the loopback address, IPv4-mapped addresses (RFC 4291 section 2.5) and those of
translators between IPv4 and IPv6 (RFC 6052, RFC 8215)."""


class Topology(StrEnum):
    """How a network forwards: by address (each host routes to blocks) or by MAC (one layer-2 segment)."""

    ROUTED = "routed"
    SWITCHED = "switched"


class Uplink(StrEnum):
    """How a network is connected to each of its hosts, and through them to other networks.

    HOST makes the host a member of the network. ISOLATED admits published ports only, and gives the host no address of
    the network. NONE connects nothing. AUTO means HOST where the network's ranges overlap no other network and no
    route of the host, else ISOLATED.
    """

    AUTO = "auto"
    HOST = "host"
    ISOLATED = "isolated"
    NONE = "none"


class NetworkState(StrEnum):
    """An ACTIVE network accepts attachments; a DELETING one waits until its hosts have released all blocks."""

    ACTIVE = "active"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class Pool:
    """A range of a network, and the prefix length of the blocks that are allocated from it."""

    range: IpNetwork
    block_length: int

    def __post_init__(self) -> None:
        """Raise `InvalidValue` (fields `range`, `block_length`) when the pool cannot be divided into blocks."""
        if self.range.prefixlen < RANGE_LENGTH_MIN[self.family]:
            raise InvalidValue(f"{self.range} is larger than a /{RANGE_LENGTH_MIN[self.family]}", field="range")
        if clash := next((other for other in _UNUSABLE if overlap(other, self.range)), None):
            raise InvalidValue(f"{self.range} overlaps {clash}, which containers cannot use", field="range")
        if self.block_length < self.range.prefixlen:
            raise InvalidValue(
                f"a /{self.block_length} block is larger than the range {self.range}", field="block_length"
            )
        if self.block_length > BLOCK_LENGTH_MAX[self.family]:
            raise InvalidValue(
                f"a /{self.block_length} block has no room for containers; use at most "
                f"/{BLOCK_LENGTH_MAX[self.family]}",
                field="block_length",
            )

    @property
    def family(self) -> Family:
        """The IP version of its addresses."""
        return Family.of(self.range)

    @property
    def capacity(self) -> int:
        """How many blocks the pool holds."""
        return 1 << (self.block_length - self.range.prefixlen)


@dataclass(frozen=True, slots=True)
class Network:
    """A network as the administrator configured it.

    A host gets its blocks from the first pool of the family that has a free one. Addresses in `reserved` are given only
    to containers that ask for them by a reservation. With `egress`, containers may open connections to outside the
    network, through the uplink. In a switched network, frames of these `ethertypes` pass in addition to ARP, IPv4 and
    IPv6. In a routed network, 169.254.1.`gateway_number` and fe80::`gateway_number` are the gateway of containers on
    every host; networks made by a release that kept no number have 1. `made_by` is the host by whose credential it was
    made, None for a network of an administrator.
    """

    name: NetworkName
    vni: Vni
    topology: Topology
    pools: tuple[Pool, ...]
    state: NetworkState = NetworkState.ACTIVE
    reserved: tuple[IpNetwork, ...] = ()
    uplink: Uplink = Uplink.AUTO
    egress: bool = True
    ethertypes: tuple[int, ...] = ()
    gateway_number: int = 1
    made_by: HostId | None = None

    def __post_init__(self) -> None:
        """Raise `InvalidValue` when a field breaks its rule."""
        ids.network_name(self.name)
        ids.vni(self.vni)
        if not 1 <= len(self.pools) <= POOLS_MAX:
            raise InvalidValue(f"a network has 1 to {POOLS_MAX} ranges, not {len(self.pools)}", field="pools")
        for (_, one), (index, other) in combinations(enumerate(self.pools), 2):
            if overlap(one.range, other.range):
                raise InvalidValue(f"{other.range} overlaps {one.range}", field=f"pools[{index}].range")
        if len(self.reserved) > RESERVED_MAX:
            raise InvalidValue(f"a network has at most {RESERVED_MAX} reserved ranges", field="reserved")
        for index, kept in enumerate(self.reserved):
            if self.pool_of(kept) is None:
                raise InvalidValue(f"{kept} lies in no range of the network", field=f"reserved[{index}]")
        if self.made_by is not None:
            ids.host_id(self.made_by, "made_by")
        if self.gateway_number not in GATEWAY_NUMBERS:
            raise InvalidValue(f"{self.gateway_number} is not 1 or 3 to 254", field="gateway_number")
        self._check_ethertypes()

    def _check_ethertypes(self) -> None:
        if self.ethertypes and self.topology is Topology.ROUTED:
            raise InvalidValue("a routed network carries IPv4 and IPv6 only", field="ethertypes")
        if len(self.ethertypes) > ETHERTYPES_MAX:
            raise InvalidValue(f"a network has at most {ETHERTYPES_MAX} EtherTypes", field="ethertypes")
        for index, kind in enumerate(self.ethertypes):
            field = f"ethertypes[{index}]"
            if not _ETHERTYPE_MIN <= kind <= 0xFFFF:  # noqa: PLR2004 - 16 bits
                raise InvalidValue(
                    f"0x{kind:04x} is no EtherType; they are 0x{_ETHERTYPE_MIN:04x} to 0xffff", field=field
                )
            if kind in _ALWAYS_PASS:
                raise InvalidValue(f"0x{kind:04x} passes in every network", field=field)
            if kind in _TAGS:
                raise InvalidValue(f"0x{kind:04x} is a VLAN tag, which could hide forged sources", field=field)
            if kind in self.ethertypes[:index]:
                raise InvalidValue(f"0x{kind:04x} is listed twice", field=field)

    @property
    def families(self) -> frozenset[Family]:
        """The IP versions of its ranges."""
        return frozenset(pool.family for pool in self.pools)

    def pool_of(self, part: IpNetwork) -> Pool | None:
        """Return the pool that contains a range, None when no pool does."""
        return next((pool for pool in self.pools if contains(pool.range, part)), None)

    @property
    def has_egress(self) -> bool:
        """Whether containers may open connections to outside the network."""
        return self.egress and self.uplink is not Uplink.NONE

    def link_local_gateway(self, family: Family) -> IpAddress:
        """Return the gateway of containers in a routed network, the same on every host."""
        number = _GATEWAYS[family] + self.gateway_number
        return IPv4Address(number) if family is Family.V4 else IPv6Address(number)

    def gateway(self, pool: Pool) -> IpAddress | None:
        """Return the address that a switched network keeps for its gateway: the second one of the pool's range."""
        return None if self.topology is Topology.ROUTED else pool.range.network_address + 1

    def special(self, pool: Pool) -> frozenset[IpAddress]:
        """Return the addresses of a pool that neither containers nor hosts may have.

        These are the first and the last address of the range, which some software treats as network and broadcast
        address, and the gateway of a switched network.
        """
        kept = (pool.range.network_address, pool.range.broadcast_address, self.gateway(pool))
        return frozenset(address for address in kept if address is not None)

    def host_address(self, pool: Pool, block: IpNetwork) -> IpAddress:
        """Return the address of a block that its host itself has: the lowest one that is not special."""
        special = self.special(pool)
        return next(address for address in block if address not in special)


@dataclass(frozen=True, slots=True)
class WantedNetwork:
    """What a host wants a network to be that exists, or is to be made. None: it may be either, or the default."""

    name: NetworkName
    ranges: tuple[IpNetwork, ...]
    topology: Topology | None = None
    vni: Vni | None = None
    egress: bool | None = None

    def contradiction(self, found: Network) -> str | None:
        """Return in what the network of this name differs from what is wanted, None when it does not."""
        theirs = [pool.range for pool in found.pools]
        if other := next((cidr for cidr in self.ranges if cidr not in theirs), None):
            return f"has the range {', '.join(map(str, theirs))}, and not {other}"
        if self.topology not in {None, found.topology}:
            return f"is {found.topology}, and not {self.topology}"
        if self.vni not in {None, found.vni}:
            return f"has VNI {found.vni}, and not {self.vni}"
        if self.egress not in {None, found.has_egress}:
            return "lets containers out" if found.has_egress else "lets no containers out"
        return None
