"""What the feed says belongs to this host's endpoints. Pure."""

from overlayd.model.address import IpAddress, IpNetwork
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import HostId, NetworkName
from overlayd.model.reservation import Reservation, lost_addresses


class Holdings:
    """The addresses that endpoints of one host may have, in a cluster."""

    def __init__(self, cluster: Cluster, host: HostId) -> None:
        self._reserved: dict[NetworkName, dict[IpAddress, Reservation]] = {name: {} for name in cluster.networks}
        self._blocks: dict[NetworkName, list[IpNetwork]] = {name: [] for name in cluster.networks}
        for reservation in cluster.reservations.values():
            if reservation.network in self._reserved:
                self._reserved[reservation.network].update(dict.fromkeys(reservation.addresses, reservation))
        for block in cluster.blocks.values():
            if block.host == host and block.network in self._blocks:
                self._blocks[block.network].append(block.cidr)

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
            if address not in lost and (address in reserved or any(address in block for block in blocks))
        )

    def reservation_at(self, network: NetworkName, address: IpAddress) -> Reservation | None:
        """Return the reservation that holds an address, None when there is none."""
        return self._reserved.get(network, {}).get(address)
