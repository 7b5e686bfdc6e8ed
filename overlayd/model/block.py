"""The part of a network's range that one host owns."""

from dataclasses import dataclass
from ipaddress import IPv4Network

from overlayd.model.ids import HostId, NetworkName

BlockKey = tuple[NetworkName, IPv4Network]


@dataclass(frozen=True, slots=True)
class Block:
    """Addresses of `network` that `host` alone gives to its containers."""

    network: NetworkName
    cidr: IPv4Network
    host: HostId

    @property
    def key(self) -> BlockKey:
        """What makes the block unique in the cluster."""
        return (self.network, self.cidr)
