"""The part of a network's range that one host owns."""

from dataclasses import dataclass

from overlayd.model.address import Family, IpNetwork
from overlayd.model.ids import HostId, NetworkName

BlockKey = tuple[NetworkName, IpNetwork]


@dataclass(frozen=True, slots=True)
class Block:
    """A range of addresses of `network`, of which only `host` gives addresses to containers."""

    network: NetworkName
    cidr: IpNetwork
    host: HostId

    @property
    def key(self) -> BlockKey:
        """The block's unique key in the cluster."""
        return (self.network, self.cidr)

    @property
    def family(self) -> Family:
        """The IP version of the block's addresses."""
        return Family.of(self.cidr)
