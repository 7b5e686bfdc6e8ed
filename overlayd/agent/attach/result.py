"""What an attachment gave a workload, for the answer to its runtime."""

from dataclasses import dataclass

from overlayd.dataplane.desired.endpoint import destinations, endpoint_address, gateway_of
from overlayd.model.address import Family, IpAddress, IpInterface, IpNetwork
from overlayd.model.endpoint import Endpoint
from overlayd.model.network import Network


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
    """Return what an endpoint of a network has. Pure."""
    families = {Family.of(address) for address in endpoint.addresses}
    addresses = (
        GivenAddress(endpoint_address(network, each), gateway_of(network, each)) for each in endpoint.addresses
    )
    return AttachResult(endpoint, mtu, tuple(addresses), tuple(destinations(network, families)))
