"""Which attachment may publish which port of this host."""

from collections.abc import Iterable

from overlayd.agent.records.attachment_records import Attachment
from overlayd.model.errors import AlreadyExists, InvalidValue
from overlayd.model.network import Network, Uplink
from overlayd.model.published_port import PortMapping

_FIELD = "ports"


def check_ports(network: Network, wanted: Attachment, others: Iterable[Attachment]) -> None:
    """Check the ports that a new attachment to a network is to publish against those of the other attachments.

    Another attachment of the same container may have the same ports, because podman requests them for each of its
    networks: they lead to one of its addresses as long as there is one.

    Raises:
        InvalidValue: nothing leads into the network, or it has no addresses of the family.
        AlreadyExists: another container has the port; it is named.
    """
    if not wanted.ports:
        return
    if network.uplink is Uplink.NONE:
        raise InvalidValue(f"network {network.name} has no uplink, by which a port would lead in", field=_FIELD)
    for mapping in wanted.ports:
        if not any(mapping.is_of(family) for family in network.families):
            raise InvalidValue(f"network {network.name} has no addresses of the family of {mapping}", field=_FIELD)
    for other in claimants(wanted, others):
        clash = next(each for each in wanted.ports if _is_taken(each, wanted, other))
        endpoint = other.endpoint
        raise AlreadyExists(
            f"{clash} is published by {endpoint.container_id} of network {endpoint.network}", field=_FIELD
        )


def claimants(wanted: Attachment, others: Iterable[Attachment]) -> list[Attachment]:
    """Return the attachments of other containers that have a port which a new one is to publish."""
    if not wanted.ports:
        return []
    return [
        other
        for other in others
        if other.endpoint.container_id != wanted.endpoint.container_id
        and any(_is_taken(each, wanted, other) for each in wanted.ports)
    ]


def _is_taken(mapping: PortMapping, wanted: Attachment, other: Attachment) -> bool:
    """Return whether another attachment has the port.

    Into an isolated network a port leads by its number alone, whatever address of the host it is published at, so one
    network has it once.
    """
    one_network = wanted.endpoint.network == other.endpoint.network
    return any(mapping.clashes(each) or (one_network and mapping.has_number_of(each)) for each in other.ports)
