"""Published ports: ports of a host that lead to containers."""

from dataclasses import dataclass
from enum import StrEnum

from overlayd.model.address import Family, IpAddress
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import NetworkName

PORT_MAX = 65535


class TransportProtocol(StrEnum):
    """The protocols that have ports."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port of the host, and the port of the container to which it leads.

    `host_address` is the address of the host at which the port is published: None means all addresses of both families,
    an unspecified address (``0.0.0.0``, ``::``) all addresses of its family.
    """

    transport: TransportProtocol
    host_port: int
    container_port: int
    host_address: IpAddress | None = None

    def __post_init__(self) -> None:
        """Raise `InvalidValue` (fields `hostPort`, `containerPort`, `hostIP`) when a field breaks its rule."""
        for field, port in (("hostPort", self.host_port), ("containerPort", self.container_port)):
            if not 1 <= port <= PORT_MAX:
                raise InvalidValue(f"{port} is not in 1..{PORT_MAX}", field=field)
        if self.host_address is not None and self.host_address.is_multicast:
            raise InvalidValue(f"{self.host_address} is a multicast address", field="hostIP")

    def __str__(self) -> str:
        """Return protocol, port and address of the host."""
        where = f" of {self.host_address}" if self.one_address else ""
        return f"{self.transport.upper()} port {self.host_port}{where}"

    @property
    def one_address(self) -> IpAddress | None:
        """The only address at which the port is published, None when it is published at all of a family."""
        return None if self.host_address is None or self.host_address.is_unspecified else self.host_address

    def is_of(self, family: Family) -> bool:
        """Return whether the port is published at addresses of a family."""
        return self.host_address is None or Family.of(self.host_address) is family

    def has_number_of(self, other: "PortMapping") -> bool:
        """Return whether two mappings have the same protocol and host port, at whatever addresses."""
        return (self.transport, self.host_port) == (other.transport, other.host_port)

    def clashes(self, other: "PortMapping") -> bool:
        """Return whether two mappings use the same port at some address of the host."""
        if not self.has_number_of(other):
            return False
        if self.one_address and other.one_address:
            return self.one_address == other.one_address
        return any(self.is_of(family) and other.is_of(family) for family in Family)


@dataclass(frozen=True, slots=True)
class Published:
    """A published port, with the addresses of the container in its network."""

    network: NetworkName
    addresses: tuple[IpAddress, ...]
    mapping: PortMapping

    @property
    def order(self) -> tuple[str, int, bool, str]:
        """The sort key: a port at one address of the host precedes the same port at all addresses."""
        one = self.mapping.one_address
        return (self.mapping.transport, self.mapping.host_port, one is None, str(one or self.mapping.host_address))
