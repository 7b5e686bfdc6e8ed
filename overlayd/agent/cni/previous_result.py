"""Compares the `prevResult` of a CHECK with the record of the attachment. Pure."""

from collections.abc import Iterator

from overlayd.agent.records.attachment_records import Attachment
from overlayd.model.bandwidth import UNLIMITED
from overlayd.wire.cni.requests import Request


def contradictions(request: Request, attachment: Attachment) -> Iterator[str]:
    """Yield the contradictions between a CHECK and the record of its attachment, one sentence each.

    A CHECK may omit the ports and limits of its ADD; if it has any, they must be the same.
    """
    endpoint, previous = attachment.endpoint, request.previous
    for address in endpoint.addresses:
        if address not in previous.addresses:
            yield f"prevResult does not have the address {address}"
    interface = previous.interface(endpoint.interface)
    if interface is None:
        yield f"prevResult does not have the interface {endpoint.interface} in a sandbox"
    if request.wishes.ports and set(request.wishes.ports) != set(attachment.ports):
        published = ", ".join(map(str, attachment.ports)) or "nothing"
        yield f"runtimeConfig.portMappings is not what was published: {published}"
    if request.wishes.bandwidth not in {UNLIMITED, attachment.bandwidth}:
        yield "runtimeConfig.bandwidth is not what was asked for at the attachment"


def known_mtu(request: Request) -> int | None:
    """Return the MTU in bytes that `prevResult` has for the container's interface, if any."""
    interface = request.previous.interface(request.interface)
    return interface.mtu if interface else None
