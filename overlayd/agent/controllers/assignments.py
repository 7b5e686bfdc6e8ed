"""What the feed says belongs to this host's endpoints. Pure."""

from overlayd.model.address import IpAddress, IpNetwork
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.ids import HostId, MacAddress, NetworkName
from overlayd.model.reservation import Holder, Reservation, lost_addresses


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


def others_with_mac(cluster: Cluster, mac: MacAddress, endpoint: EndpointKey) -> str | None:
    """Return who else has a MAC in the network of an endpoint: a reservation, or an endpoint of another host."""
    network, host, *_ = endpoint
    for reservation in cluster.reservations.values():
        if (reservation.network, reservation.mac) == (network, mac) and reservation.holder != Holder.of(endpoint):
            return f"reservation {reservation.name}"
    for other in cluster.endpoints.values():
        if (other.network, other.mac) == (network, mac) and other.host != host:
            where = cluster.hosts.get(other.host)
            return f"container {other.container_id} on host {where.name if where else other.host}"
    return None
