"""The part of a network's range that one host owns."""

from dataclasses import dataclass

from overlayd.model.address import Family, IpNetwork
from overlayd.model.ids import HostId, NetworkName

BlockKey = tuple[NetworkName, IpNetwork]


@dataclass(frozen=True, slots=True)
class Block:
    """Addresses of `network` that `host` alone gives to its containers."""

    network: NetworkName
    cidr: IpNetwork
    host: HostId

    @property
    def key(self) -> BlockKey:
        """What makes the block unique in the cluster."""
        return (self.network, self.cidr)

    @property
    def family(self) -> Family:
        """The IP version of its addresses."""
        return Family.of(self.cidr)
