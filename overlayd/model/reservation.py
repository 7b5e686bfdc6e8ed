"""Reservations: addresses held for a name, which a container keeps when it moves to another host."""

from collections.abc import Mapping
from dataclasses import dataclass

from overlayd.model import ids
from overlayd.model.address import IpAddress
from overlayd.model.endpoint import Endpoint, EndpointKey, check_addresses
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import ContainerId, HostId, InterfaceName, MacAddress, NetworkName, ReservationName

ReservationKey = tuple[NetworkName, ReservationName]


@dataclass(frozen=True, slots=True)
class Holder:
    """The interface that has the reserved addresses now."""

    host: HostId
    container_id: ContainerId
    interface: InterfaceName

    def __post_init__(self) -> None:
        """Raise `InvalidValue` when a field breaks its rule."""
        ids.host_id(self.host, "host")
        ids.container_id(self.container_id)
        ids.interface_name(self.interface)

    @classmethod
    def of(cls, endpoint: EndpointKey) -> "Holder":
        """Return the holder for an endpoint."""
        _, host, container, interface = endpoint
        return cls(host, container, interface)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Addresses of a network, at most one of each family, for the container that names the reservation.

    `mac` is the MAC of the interface that holds it; None means a random one at each attachment. The addresses of a
    `shared` reservation float among its members, which are interfaces with addresses of their own: `holder` is then the
    member that announced them last.
    """

    network: NetworkName
    name: ReservationName
    addresses: tuple[IpAddress, ...]
    mac: MacAddress | None = None
    holder: Holder | None = None
    shared: bool = False

    def __post_init__(self) -> None:
        """Raise `InvalidValue` when a field breaks its rule."""
        ids.network_name(self.network, "network")
        ids.reservation_name(self.name)
        check_addresses(self.addresses)
        if self.mac is not None:
            ids.mac_address(self.mac)
            if self.shared:
                raise InvalidValue("the members of a shared reservation have a MAC each", field="mac")

    @property
    def key(self) -> ReservationKey:
        """The reservation's unique key in the cluster."""
        return (self.network, self.name)


def lost_addresses(endpoint: Endpoint, reserved: Mapping[IpAddress, Reservation]) -> frozenset[IpAddress]:
    """Return the addresses of an endpoint that belong to a reservation which the endpoint does not hold."""
    found = ((address, reserved.get(address)) for address in endpoint.addresses)
    return frozenset(address for address, held in found if held and held.holder != Holder.of(endpoint.key))


def shared_addresses(
    endpoint: Endpoint, reservations: Mapping[ReservationKey, Reservation]
) -> dict[IpAddress, Reservation]:
    """Return the addresses of the shared reservations of an endpoint, each with its reservation."""
    found = (reservations.get((endpoint.network, name)) for name in endpoint.shares)
    return {address: each for each in found if each and each.shared for address in each.addresses}
