"""What the feed says belongs to this host's endpoints. Pure."""

from overlayd.model.address import IpAddress
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import HostId
from overlayd.model.reservation import lost_addresses


class Holdings:
    """The addresses that endpoints of one host may have, in a cluster."""

    def __init__(self, cluster: Cluster, host: HostId) -> None:
        self._reserved = {name: cluster.reserved(name) for name in cluster.networks}
        self._blocks = {name: cluster.blocks_of(name, host) for name in cluster.networks}

    def kept(self, endpoint: Endpoint) -> tuple[IpAddress, ...]:
        """Return those addresses of an endpoint that lie in a block of its host, or in a reservation that it holds.

        Of a network that the feed does not tell of, these are all.
        """
        reserved = self._reserved.get(endpoint.network)
        if reserved is None:
            return endpoint.addresses
        lost, blocks = lost_addresses(endpoint, reserved), self._blocks[endpoint.network]
        return tuple(
            address
            for address in endpoint.addresses
            if address not in lost and (address in reserved or any(address in block.cidr for block in blocks))
        )
