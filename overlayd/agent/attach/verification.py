"""What an attachment must still have in the kernel, and what plugins after us may have changed of it. Pure."""

from dataclasses import replace

from overlayd.dataplane import render
from overlayd.dataplane.items import DeviceSysctls, Item, Link, NamespaceRef, NftTable, State
from overlayd.model.endpoint import Endpoint


def allowed(items: State, endpoint: Endpoint, known_mtu: int | None, observed: Link | None) -> State:
    """Return an endpoint's items as plugins after us may have left them (CNI SPEC, section "CHECK").

    They may have set sysctls, and the MTU: to `known_mtu`, what the runtime knows as the interface's MTU in bytes, or
    to less than ours without saying so. `known_mtu` may be ours, and not theirs. What they add is theirs, and no item.
    """
    key = (Link, NamespaceRef(endpoint.sandbox), endpoint.interface)
    has = observed.mtu if observed else None

    def mtu(ours: int | None) -> int | None:
        expected = known_mtu or ours
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
