"""An attachment of a workload to a network."""

from dataclasses import dataclass

from overlayd.model import ids
from overlayd.model.address import Family, IpAddress
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import ContainerId, HostId, InterfaceName, MacAddress, NetworkName, ReservationName
from overlayd.model.workload import UNKNOWN, Workload

SHARES_MAX = 16
"""The largest number of shared reservations of one interface."""

EndpointKey = tuple[NetworkName, HostId, ContainerId, InterfaceName]
"""It includes the host, because container ids are unique on one host only."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One interface of one container in one network, with at most one address of each family.

    `sandbox` is the path of its network namespace on `host`, and `workload` what the runtime reports about it. `shares`
    names the shared reservations whose addresses it may use in addition to its own.
    """

    network: NetworkName
    container_id: ContainerId
    interface: InterfaceName
    host: HostId
    addresses: tuple[IpAddress, ...]
    mac: MacAddress
    sandbox: str
    workload: Workload = UNKNOWN
    shares: tuple[ReservationName, ...] = ()

    def __post_init__(self) -> None:
        """Raise `InvalidValue` when a field breaks its rule."""
        ids.network_name(self.network, "network")
        ids.container_id(self.container_id)
        ids.interface_name(self.interface)
        ids.host_id(self.host, "host")
        ids.mac_address(self.mac)
        check_addresses(self.addresses)
        if len(self.shares) > SHARES_MAX:
            raise InvalidValue(f"an interface has at most {SHARES_MAX} shared reservations", field="shares")
        for index, name in enumerate(self.shares):
            ids.reservation_name(name, f"shares[{index}]")

    @property
    def key(self) -> EndpointKey:
        """The endpoint's unique key in the cluster."""
        return (self.network, self.host, self.container_id, self.interface)


def check_addresses(addresses: tuple[IpAddress, ...], field: str = "addresses") -> None:
    """Raise `InvalidValue` unless these are one address, or one of each family."""
    families = [Family.of(address) for address in addresses]
    if not families or len(set(families)) != len(families):
        raise InvalidValue(f"expected one address, or one of each family, not {len(addresses)}", field=field)
