"""Which addresses and MACs belong to this host's endpoints, according to the feed. Pure."""

from overlayd.model.address import IpAddress, IpNetwork
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.ids import HostId, MacAddress, NetworkName
from overlayd.model.reservation import Holder, Reservation, lost_addresses


class Holdings:
    """The addresses that endpoints of one host may have, in a cluster."""

    def __init__(self, cluster: Cluster, host: HostId) -> None:
        self._cluster = cluster
        self._host = host
        self._reserved: dict[NetworkName, dict[IpAddress, Reservation]] = {}
        self._blocks: dict[NetworkName, list[IpNetwork]] = {}

    def kept(self, endpoint: Endpoint) -> tuple[IpAddress, ...]:
        """Return those addresses of an endpoint that lie in a block of its host, or in a reservation that it holds.

        In a network that the feed does not have, these are all of them.
        """
        if endpoint.network not in self._cluster.networks:
            return endpoint.addresses
        reserved, blocks = self._reserved_in(endpoint.network), self._blocks_in(endpoint.network)
        lost = lost_addresses(endpoint, reserved)
        return tuple(
            address
            for address in endpoint.addresses
            if address not in lost and (address in reserved or any(address in block for block in blocks))
        )

    def reservation_at(self, network: NetworkName, address: IpAddress) -> Reservation | None:
        """Return the reservation that holds an address, None when there is none."""
        return self._reserved_in(network).get(address)

    def _reserved_in(self, network: NetworkName) -> dict[IpAddress, Reservation]:
        if network not in self._reserved:
            self._reserved[network] = self._cluster.reserved(network)
        return self._reserved[network]

    def _blocks_in(self, network: NetworkName) -> list[IpNetwork]:
        if network not in self._blocks:
            self._blocks[network] = [block.cidr for block in self._cluster.blocks_of(network, self._host)]
        return self._blocks[network]


def others_with_mac(cluster: Cluster, mac: MacAddress, endpoint: EndpointKey) -> str | None:
    """Return the other owner of a MAC in the network of an endpoint: a reservation, or an endpoint of another host."""
    network, host, *_ = endpoint
    for reservation in cluster.reservations.of(network).values():
        if reservation.mac == mac and reservation.holder != Holder.of(endpoint):
            return f"reservation {reservation.name}"
    for other in cluster.endpoints.of(network).values():
        if other.mac == mac and other.host != host:
            where = cluster.hosts.get(other.host)
            return f"container {other.container_id} on host {where.name if where else other.host}"
    return None
