"""What a CHECK compares before it asks the kernel, and what it lets plugins after us change. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from overlayd.agent.checkpoint import Attachment
from overlayd.dataplane import render
from overlayd.dataplane.items import DeviceSysctls, Item, Link, NamespaceRef, NftTable, State
from overlayd.model.bandwidth import UNLIMITED
from overlayd.model.endpoint import Endpoint
from overlayd.wire.cni import Request


def contradictions(request: Request, attachment: Attachment) -> Iterator[str]:
    """Yield what the request says of an attachment that its record does not, one sentence each.

    A CHECK need not repeat the ports and limits of its ADD; if it does they are the same.
    """
    endpoint, previous = attachment.endpoint, request.previous
    for address in endpoint.addresses:
        if address not in previous.addresses:
            yield f"prevResult does not have the address {address}"
    interface = previous.interface(endpoint.interface)
    if interface is None:
        yield f"prevResult does not have the interface {endpoint.interface} in a sandbox"
    elif interface.mac not in {None, "", endpoint.mac}:
        yield f"prevResult has the MAC address {interface.mac}, and the endpoint was given {endpoint.mac}"
    if request.wishes.ports and set(request.wishes.ports) != set(attachment.ports):
        published = ", ".join(map(str, attachment.ports)) or "nothing"
        yield f"runtimeConfig.portMappings is not what was published: {published}"
    if request.wishes.bandwidth not in {UNLIMITED, attachment.bandwidth}:
        yield "runtimeConfig.bandwidth is not what was asked for at the attachment"


def allowed(items: State, endpoint: Endpoint, request: Request, observed: Link | None) -> State:
    """Return an endpoint's items as plugins after us may have left them.

    They may have set sysctls, and a smaller MTU, or any that `prevResult` tells: versions before 1.1.0 cannot tell one.
    """
    key = (Link, NamespaceRef(endpoint.sandbox), endpoint.interface)
    known = request.previous.interface(endpoint.interface)
    told = known.mtu if known else None

    def mtu(ours: int | None) -> int | None:
        if told:
            return told
        smaller = observed and observed.mtu and ours and observed.mtu < ours
        return observed.mtu if observed and smaller else ours

    return frozenset(
        replace(item, mtu=mtu(item.mtu)) if isinstance(item, Link) and item.key == key else item
        for item in items
        if not isinstance(item, DeviceSysctls)
    )


def described(item: Item) -> str:
    """Return in one line what is not in force: the command that would make it."""
    if isinstance(item, NftTable):
        return f"missing or different: table {item.family} {item.name} of nftables in {item.ns}"
    return f"missing or different: {render.added(item)}"
