"""A network: an isolated address space that containers on any host can join."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network

from overlayd.model import ids
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import NetworkName, Vni

RANGE_LENGTH_MIN = 8
BLOCK_LENGTH_MAX = 29
"""A /29 is the smallest block that still has addresses for containers beside the reserved ones."""

_UNUSABLE = tuple(IPv4Network(cidr) for cidr in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"))


class Topology(StrEnum):
    """How a network forwards: by address (each host routes to blocks) or by MAC (one layer-2 segment)."""

    ROUTED = "routed"
    SWITCHED = "switched"


class NetworkState(StrEnum):
    """ACTIVE networks take attachments; DELETING ones wait for their hosts to give back the last block."""

    ACTIVE = "active"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class Pool:
    """A range of addresses and the prefix length of the blocks that hosts get from it."""

    range: IPv4Network
    block_length: int

    def __post_init__(self) -> None:
        """Raise `InvalidValue` (fields `range`, `block_length`) when the pool cannot be divided into blocks."""
        if self.range.prefixlen < RANGE_LENGTH_MIN:
            raise InvalidValue(f"{self.range} is larger than a /{RANGE_LENGTH_MIN}", field="range")
        if clash := next((other for other in _UNUSABLE if other.overlaps(self.range)), None):
            raise InvalidValue(f"{self.range} overlaps {clash}, which containers cannot use", field="range")
        if self.block_length < self.range.prefixlen:
            raise InvalidValue(
                f"a /{self.block_length} block is larger than the range {self.range}", field="block_length"
            )
        if self.block_length > BLOCK_LENGTH_MAX:
            raise InvalidValue(
                f"a /{self.block_length} block has no room for containers; use at most /{BLOCK_LENGTH_MAX}",
                field="block_length",
            )

    @property
    def capacity(self) -> int:
        """How many blocks the pool holds."""
        return 1 << (self.block_length - self.range.prefixlen)


@dataclass(frozen=True, slots=True)
class Network:
    """A network as the administrator made it. `pools` holds exactly one IPv4 pool."""

    name: NetworkName
    vni: Vni
    topology: Topology
    pools: tuple[Pool, ...]
    state: NetworkState = NetworkState.ACTIVE

    def __post_init__(self) -> None:
        """Raise `InvalidValue` when a field breaks its rule."""
        ids.network_name(self.name)
        ids.vni(self.vni)
        if len(self.pools) != 1:
            raise InvalidValue(f"a network has exactly one range, not {len(self.pools)}", field="pools")
