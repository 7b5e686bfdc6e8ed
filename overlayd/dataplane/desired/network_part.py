"""The desired state of one network on one host, assembled from parts that are reused while their records stay. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType

from overlayd.dataplane.desired.endpoint import as_mtu_allows
from overlayd.dataplane.desired.network_items import (
    NetworkInputs,
    endpoint_items,
    floating_items,
    host_items,
    latecomers,
    limit_items,
    local_items,
    network_items,
    uplink_items,
    way_items,
)
from overlayd.dataplane.desired.remotes import RemotePart, Remotes, remotes
from overlayd.dataplane.items import HOST, Item, NamespaceRef, State, network_namespace
from overlayd.model.endpoint import EndpointKey
from overlayd.model.host import Host
from overlayd.model.ids import HostId


@dataclass(frozen=True, slots=True)
class OwnPart:
    """What this host itself makes of a network, in the order in which the first item of a key counts.

    `devices` come first, then `local` endpoints, then what is of other hosts, then the rest.
    """

    late: frozenset[EndpointKey]
    devices: tuple[Item, ...]
    local: tuple[Item, ...]
    floating: tuple[Item, ...]
    displaced: tuple[Item, ...]
    uplink: tuple[Item, ...]

    @property
    def first(self) -> tuple[Item, ...]:
        """The items with precedence over those of other hosts."""
        return (*self.devices, *self.local)

    @property
    def last(self) -> tuple[Item, ...]:
        """What comes behind them."""
        return (*self.floating, *self.displaced, *self.uplink)


@dataclass(frozen=True, slots=True)
class NetworkPart:
    """The desired state of one network, and its inputs.

    `few` are the items of this host itself, or all items where two hosts claim one entry of the kernel. `state` is that
    of the network's namespace, `on_host` what it adds in the host's own one, and `sandboxes` those of this host's
    endpoints.
    """

    inputs: NetworkInputs
    others: Remotes
    own: OwnPart
    few: tuple[Item, ...]
    state: State
    on_host: tuple[Item, ...]
    sandboxes: Mapping[NamespaceRef, tuple[Item, ...]]


def network_part(
    inputs: NetworkInputs, hosts: Mapping[HostId, Host], before: NetworkPart | None, moved: Collection[HostId]
) -> NetworkPart:
    """Return the desired state of a network; parts of `before` whose inputs have not changed are reused.

    `moved` are the hosts whose records have changed since `before`.
    """
    touched = before.others.touched(before.inputs, inputs, moved) if before else None
    if before is None or touched is None:
        others = remotes(inputs, hosts)
    else:
        others = before.others.changed(inputs, hosts, touched)
    own = _own(inputs, others, before)
    few = _few(inputs, others, own, before)
    ns = network_namespace(inputs.network.name)
    if before and touched is not None and not (others.claims.contested or before.others.claims.contested):
        state = _moved_on(ns, before, few, others, touched)
    else:
        bulk = () if others.claims.contested else chain.from_iterable(part.items for part in others.parts.values())
        state = frozenset(chain((item for item in few if item.ns == ns), bulk))
        state = before.state if before and before.state == state else state
    if before and few is before.few:
        return NetworkPart(inputs, others, own, few, state, before.on_host, before.sandboxes)
    sandboxes: dict[NamespaceRef, list[Item]] = {}
    for item in few:
        if item.ns not in {ns, HOST}:
            sandboxes.setdefault(item.ns, []).append(item)
    on_host = tuple(item for item in few if item.ns == HOST)
    inside = MappingProxyType({each: tuple(items) for each, items in sandboxes.items()})
    return NetworkPart(inputs, others, own, few, state, on_host, inside)


def one_for_each_key(items: Iterable[Item]) -> tuple[Item, ...]:
    """Return the first item for each key, for which the kernel has one entry.

    Two endpoints may have one MAC or address for a while, for example when a container moves. Endpoints of this host
    come first, and other hosts have a fixed order, so that the state does not oscillate.
    """
    found: dict[tuple[object, ...], Item] = {}
    for item in items:
        found.setdefault(item.key, item)
    return tuple(found.values())


def _own(inputs: NetworkInputs, others: Remotes, before: NetworkPart | None) -> OwnPart:
    """Return this host's own part of a network, with the pieces of `before` whose inputs have not changed."""
    late = latecomers(inputs)
    floating = tuple(floating_items(inputs, others.parts))
    known = before.own if before and before.inputs == inputs else None
    if known and before and before.inputs.reservations is inputs.reservations and known.late == late:
        if known.floating == floating:
            return known
        local, displaced = known.local, known.displaced
    else:
        local, displaced = local_items(inputs, late)
    if known:
        return OwnPart(late, known.devices, local, floating, displaced, known.uplink)
    devices = tuple(network_items(inputs))
    own_hosts = host_items(inputs.network, inputs.own, inputs.own_blocks, is_remote=False)
    uplink = (*limit_items(inputs), *own_hosts, *uplink_items(inputs))
    return OwnPart(late, devices, local, floating, displaced, uplink)


def _few(inputs: NetworkInputs, others: Remotes, own: OwnPart, before: NetworkPart | None) -> tuple[Item, ...]:
    """Return the items that are looked at one by one, of each key one."""
    if others.claims.contested:
        few = one_for_each_key(_in_order(inputs, others.parts.values(), own))
    elif before and own is before.own and not before.others.claims.contested:
        return before.few
    else:
        few = one_for_each_key(as_mtu_allows([*own.first, *own.last], inputs.site.mtu))
    return before.few if before and before.few == few else few


def _moved_on(
    ns: NamespaceRef, before: NetworkPart, few: Iterable[Item], others: Remotes, touched: Iterable[HostId]
) -> State:
    """Return the state of a network's namespace, which differs from what it was where hosts were touched.

    Nothing there is claimed twice, neither before nor now, so that what one host adds no other one adds too.
    """
    was, now = set[Item](), set[Item]()
    for host in touched:
        old, new = before.others.parts.get(host), others.parts.get(host)
        if old is not new:
            was.update(old.items if old else ())
            now.update(new.items if new else ())
    if few is not before.few:
        was.update(item for item in before.few if item.ns == ns)
        now.update(item for item in few if item.ns == ns)
    gone, come = was - now, now - was
    return (before.state - gone) | come if gone or come else before.state


def _in_order(inputs: NetworkInputs, parts: Iterable[RemotePart], own: OwnPart) -> Iterator[Item]:
    """Yield all items so that of two with one key that comes first which is to be in force."""
    everyone = sorted((part.share for part in parts), key=lambda share: share.host.id)
    endpoints = [(endpoint, share.host) for share in everyone for endpoint in share.endpoints]
    there = (endpoint_items(inputs, *each) for each in sorted(endpoints, key=lambda each: each[0].key))
    hosts = (host_items(inputs.network, share.host, share.blocks, is_remote=True) for share in everyone)
    items = chain(
        own.first,
        chain.from_iterable(way_items(inputs, share) for share in everyone),
        chain.from_iterable(there),
        own.last,
        chain.from_iterable(hosts),
    )
    return as_mtu_allows(items, inputs.site.mtu)
