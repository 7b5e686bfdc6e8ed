"""An attachment of a workload to a network."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from overlayd.model import ids
from overlayd.model.ids import ContainerId, HostId, InterfaceName, MacAddress, NetworkName

EndpointKey = tuple[NetworkName, HostId, ContainerId, InterfaceName]
"""With the host, as two hosts may have containers of one id: runtimes make ids unique on their own host only."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One interface of one container in one network. `sandbox` is the path of its network namespace on `host`."""

    network: NetworkName
    container_id: ContainerId
    interface: InterfaceName
    host: HostId
    address: IPv4Address
    mac: MacAddress
    sandbox: str

    def __post_init__(self) -> None:
        """Raise `InvalidValue` when a field breaks its rule."""
        ids.network_name(self.network, "network")
        ids.container_id(self.container_id)
        ids.interface_name(self.interface)
        ids.host_id(self.host, "host")
        ids.mac_address(self.mac)

    @property
    def key(self) -> EndpointKey:
        """What makes the endpoint unique in the cluster."""
        return (self.network, self.host, self.container_id, self.interface)
