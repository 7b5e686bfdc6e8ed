"""The request to attach a workload and its result, independent of the runtime's protocol."""

from dataclasses import dataclass
from typing import Self

from overlayd.dataplane.desired.endpoint import destinations, endpoint_address, gateway_of
from overlayd.model.address import Family, IpAddress, IpInterface, IpNetwork
from overlayd.model.bandwidth import UNLIMITED, Bandwidth
from overlayd.model.endpoint import CNI, UNKNOWN_WORKLOAD, Endpoint, EndpointKey, Workload
from overlayd.model.ids import ContainerId, HostId, InterfaceName, MacAddress, NetworkName, ReservationName
from overlayd.model.network import Network
from overlayd.model.published_port import PortMapping


@dataclass(frozen=True, slots=True)
class AttachmentName:
    """How a runtime names an attachment: an interface of a container in a network.

    `runtime` is whose name it is (`Workload.runtime`): what one runtime attached, no other one detaches or checks.
    """

    network: NetworkName
    container_id: ContainerId
    interface: InterfaceName
    runtime: str = CNI

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        """Return the name of an endpoint of this host."""
        return cls(endpoint.network, endpoint.container_id, endpoint.interface, endpoint.workload.attached_by)

    def means(self, endpoint: Endpoint) -> bool:
        """Return whether an endpoint with this key was attached by this runtime."""
        return endpoint.workload.attached_by == self.runtime

    def key(self, host: HostId) -> EndpointKey:
        """Return the key of its endpoint on a host."""
        return (self.network, host, self.container_id, self.interface)


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """What to attach, and what the attachment is to have; the network decides what is not asked for.

    `sandbox` is the path of a network namespace. `owner` is the configuration that attaches: it may collect what it
    attached. `addresses` holds one of each family at most; `ranges` are pairs of the first and the last address, from
    which the others are chosen. `needs_egress`: refuse a network without a way out.
    With `is_handed_over` the runtime itself moves the interface into the sandbox, and gives it addresses and routes: it
    is made in the host's own namespace, by its name. Its addresses are held for it (`Addressing.hold`), and it gets no
    others.

    An error about one of these values names the field here, `name` for the network: the caller translates it.
    """

    name: AttachmentName
    sandbox: str
    owner: NetworkName | None = None
    addresses: tuple[IpAddress, ...] = ()
    ranges: tuple[tuple[IpAddress, IpAddress], ...] = ()
    reservations: tuple[ReservationName, ...] = ()
    mac: MacAddress | None = None
    ports: tuple[PortMapping, ...] = ()
    bandwidth: Bandwidth = UNLIMITED
    workload: Workload = UNKNOWN_WORKLOAD
    needs_egress: bool = False
    is_handed_over: bool = False

    @property
    def takes_over(self) -> bool:
        """Whether its addresses may have belonged to another endpoint until now."""
        return bool(self.reservations or self.addresses)


@dataclass(frozen=True, slots=True)
class GivenAddress:
    """An address of the workload's interface, and the gateway of its family if there is one."""

    interface: IpInterface
    gateway: IpAddress | None


@dataclass(frozen=True, slots=True)
class AttachResult:
    """The endpoint that is in force, the MTU of its interface in bytes, its addresses, and where its routes lead."""

    endpoint: Endpoint
    mtu: int
    addresses: tuple[GivenAddress, ...]
    routes: tuple[IpNetwork, ...]


def result_of(network: Network, endpoint: Endpoint, mtu: int) -> AttachResult:
    """Return the result for an endpoint of a network: its addresses, routes, and MTU in bytes. Pure."""
    families = {Family.of(address) for address in endpoint.addresses}
    addresses = (
        GivenAddress(endpoint_address(network, each), gateway_of(network, each)) for each in endpoint.addresses
    )
    return AttachResult(endpoint, mtu, tuple(addresses), tuple(destinations(network, families)))
