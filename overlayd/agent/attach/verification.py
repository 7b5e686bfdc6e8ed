"""What a CHECK compares before it asks the kernel, and what it lets plugins after us change. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from overlayd.agent.records.attachment_records import Attachment
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
    if request.wishes.ports and set(request.wishes.ports) != set(attachment.ports):
        published = ", ".join(map(str, attachment.ports)) or "nothing"
        yield f"runtimeConfig.portMappings is not what was published: {published}"
    if request.wishes.bandwidth not in {UNLIMITED, attachment.bandwidth}:
        yield "runtimeConfig.bandwidth is not what was asked for at the attachment"


def allowed(items: State, endpoint: Endpoint, request: Request, observed: Link | None) -> State:
    """Return an endpoint's items as plugins after us may have left them (CNI SPEC, section "CHECK").

    They may have set sysctls, and the MTU: to what `prevResult` says, or to less than ours without saying so. An MTU in
    `prevResult` may be ours, and not theirs. What they add is theirs, and no item.
    """
    key = (Link, NamespaceRef(endpoint.sandbox), endpoint.interface)
    known = request.previous.interface(endpoint.interface)
    told, has = (known.mtu if known else None), (observed.mtu if observed else None)

    def mtu(ours: int | None) -> int | None:
        expected = told or ours
        is_smaller = has and ours and expected and has < min(ours, expected)
        return has if is_smaller else expected

    return frozenset(
        replace(item, mtu=mtu(item.mtu)) if isinstance(item, Link) and item.key == key else item
        for item in items
        if not isinstance(item, DeviceSysctls)
    )


def strange_mac(endpoint: Endpoint, observed: Link | None) -> str | None:
    """Return in one sentence that the interface has another MAC than the network knows, None when it has that one.

    A plugin after us may have set it, but nothing reaches the container (CNI SPEC, section "CHECK": "generally
    unreachable").
    """
    if observed is None or observed.mac == endpoint.mac:
        return None
    return (
        f"{endpoint.interface} has the MAC address {observed.mac}, and the network delivers to {endpoint.mac}:"
        " ask for a MAC by the capability mac, not by a plugin that sets it later"
    )


def described(item: Item) -> str:
    """Return in one line what is not in force: the command that would make it."""
    if isinstance(item, NftTable):
        return f"missing or different: table {item.family} {item.name} of nftables in {item.ns}"
    return f"missing or different: {render.added(item)}"
