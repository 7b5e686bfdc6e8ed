"""The desired state of one network on one host, put together of pieces that are kept while their records stay. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType

from overlayd.dataplane.desired import uplink
from overlayd.dataplane.desired.endpoint import as_mtu_allows
from overlayd.dataplane.desired.network_items import (
    NetworkInputs,
    RemoteShare,
    endpoint_items,
    floating_items,
    host_items,
    limit_items,
    local_items,
    network_items,
    uplink_items,
    way_items,
)
from overlayd.dataplane.items import HOST, Item, NamespaceRef, State, network_namespace
from overlayd.model import ids
from overlayd.model.address import IpAddress
from overlayd.model.block import Block
from overlayd.model.endpoint import Endpoint
from overlayd.model.host import Host
from overlayd.model.ids import HostId, MacAddress
from overlayd.model.network import Topology, Uplink


@dataclass(frozen=True, slots=True)
class RemotePart:
    """What another host adds to a network: the items, and the MACs and addresses for which it claims an entry."""

    share: RemoteShare
    items: State
    claims: tuple[MacAddress | IpAddress, ...]


@dataclass(frozen=True, slots=True)
class NetworkPart:
    """The desired state of one network, and what it came of.

    `members` are the other hosts whose records matter. `state` is that of the network's namespace, `on_host` what it
    adds in the host's own one, and `sandboxes` those of this host's endpoints.
    """

    inputs: NetworkInputs
    members: frozenset[HostId]
    remotes: Mapping[HostId, RemotePart]
    state: State
    on_host: tuple[Item, ...]
    sandboxes: Mapping[NamespaceRef, tuple[Item, ...]]


def network_part(inputs: NetworkInputs, hosts: Mapping[HostId, Host], before: NetworkPart | None) -> NetworkPart:
    """Return the desired state of a network; what it was `before` saves the work for what has not changed."""
    members, remotes = _remotes(inputs, hosts, before)
    elsewhere = {endpoint.mac for endpoint in inputs.endpoints.values() if endpoint.host != inputs.own.id}
    local, displaced = local_items(inputs, elsewhere)
    first = [*network_items(inputs), *local]
    last = [
        *floating_items(inputs, remotes),
        *displaced,
        *limit_items(inputs),
        *host_items(inputs.network, inputs.own, inputs.own_blocks, is_remote=False),
        *uplink_items(inputs),
    ]
    if _may_clash(inputs, remotes.values()):
        few, bulk = one_for_each_key(_in_order(inputs, remotes.values(), first, last)), frozenset[Item]()
    else:
        few = one_for_each_key(as_mtu_allows([*first, *last], inputs.site.mtu))
        bulk = frozenset[Item]().union(*(remote.items for remote in remotes.values()))
    ns = network_namespace(inputs.network.name)
    state = bulk.union(item for item in few if item.ns == ns)
    sandboxes: dict[NamespaceRef, list[Item]] = {}
    for item in few:
        if item.ns not in {ns, HOST}:
            sandboxes.setdefault(item.ns, []).append(item)
    return NetworkPart(
        inputs,
        members,
        MappingProxyType(remotes),
        before.state if before and before.state == state else state,
        tuple(item for item in few if item.ns == HOST),
        MappingProxyType({each: tuple(items) for each, items in sandboxes.items()}),
    )


def one_for_each_key(items: Iterable[Item]) -> tuple[Item, ...]:
    """Return the first item for each key: the kernel has one place for it.

    Two endpoints may claim one MAC or address, above all while a container moves. What is on this host comes first, and
    then one host comes always before the other, so that the state does not swing.
    """
    found: dict[tuple[object, ...], Item] = {}
    for item in items:
        found.setdefault(item.key, item)
    return tuple(found.values())


def _remotes(
    inputs: NetworkInputs, hosts: Mapping[HostId, Host], before: NetworkPart | None
) -> tuple[frozenset[HostId], dict[HostId, RemotePart]]:
    """Return who else has a record in the network, and what each of those adds that can be reached.

    That is what it added before, while its share is the same.
    """
    known = before.remotes if before and _ground(before.inputs) == _ground(inputs) else {}
    blocks, endpoints, reserved = _by_host(inputs)
    members = frozenset(chain(blocks, endpoints, reserved)) - {inputs.own.id}
    found: dict[HostId, RemotePart] = {}
    for member in members:
        if host := hosts.get(member):
            share = RemoteShare(host, blocks.get(member, ()), endpoints.get(member, ()), reserved.get(member, ()))
            if (remote := known.get(member)) and remote.share == share:
                found[member] = remote
            elif inputs.is_reachable(host):
                found[member] = _remote(inputs, share)
    return members, found


_Parts = tuple[dict[HostId, tuple[Block, ...]], dict[HostId, tuple[Endpoint, ...]], dict[HostId, tuple[IpAddress, ...]]]


def _by_host(inputs: NetworkInputs) -> _Parts:
    """Return what each host has in the network: blocks, endpoints in a switched one, reserved addresses in a routed."""
    blocks = dict[HostId, tuple[Block, ...]]()
    endpoints = dict[HostId, tuple[Endpoint, ...]]()
    reserved = dict[HostId, tuple[IpAddress, ...]]()
    for block in inputs.blocks.values():
        blocks[block.host] = (*blocks.get(block.host, ()), block)
    if inputs.network.topology is Topology.SWITCHED:
        for endpoint in inputs.endpoints.values():
            endpoints[endpoint.host] = (*endpoints.get(endpoint.host, ()), endpoint)
    else:
        for address, reservation in inputs.reserved.items():
            if holder := reservation.holder:
                reserved[holder.host] = (*reserved.get(holder.host, ()), address)
    return blocks, endpoints, reserved


def _ground(inputs: NetworkInputs) -> tuple[object, ...]:
    """Return all of the inputs on which the way to other hosts depends, besides what those have themselves."""
    return (inputs.network, inputs.own.address, inputs.site.underlay, inputs.site.mtu)


def _remote(inputs: NetworkInputs, share: RemoteShare) -> RemotePart:
    network, host = inputs.network, share.host
    there = chain.from_iterable(endpoint_items(inputs, endpoint, host) for endpoint in share.endpoints)
    items = chain(way_items(inputs, share), there, host_items(network, host, share.blocks, is_remote=True))
    state = frozenset(as_mtu_allows(items, inputs.site.mtu))
    claims: list[MacAddress | IpAddress] = []
    if network.topology is Topology.SWITCHED:
        for endpoint in share.endpoints:
            if not ids.is_own_mac(endpoint.mac):
                claims += (endpoint.mac, *endpoint.addresses)
        claims += _own_addresses(inputs, share.blocks)
    return RemotePart(share, state, tuple(claims))


def _own_addresses(inputs: NetworkInputs, blocks: Iterable[Block]) -> tuple[IpAddress, ...]:
    return () if inputs.network.uplink is Uplink.NONE else uplink.own_addresses(inputs.network, blocks)


def _may_clash(inputs: NetworkInputs, remotes: Collection[RemotePart]) -> bool:
    """Tell whether two of those who have something in the network may claim one entry of the kernel.

    The entries of hosts bear their numbers, and in a routed network there are no others of other hosts.
    """
    numbers = {remote.share.host.number for remote in remotes} | {inputs.own.number}
    if len(numbers) <= len(remotes):
        return True
    if inputs.network.topology is Topology.ROUTED:
        return False
    claims: list[tuple[MacAddress | IpAddress, ...]] = [(each.mac, *each.addresses) for each in inputs.local]
    claims.append(tuple(address for address, reservation in inputs.reserved.items() if reservation.shared))
    claims.append(_own_addresses(inputs, inputs.own_blocks))
    claims += (remote.claims for remote in remotes)
    return len(set(chain.from_iterable(claims))) < sum(len(each) for each in claims)


def _in_order(
    inputs: NetworkInputs, remotes: Iterable[RemotePart], first: Iterable[Item], last: Iterable[Item]
) -> Iterator[Item]:
    """Yield all items so that of two with one key that comes first which is to be in force."""
    everyone = sorted((remote.share for remote in remotes), key=lambda share: share.host.id)
    endpoints = [(endpoint, share.host) for share in everyone for endpoint in share.endpoints]
    there = (endpoint_items(inputs, *each) for each in sorted(endpoints, key=lambda each: each[0].key))
    hosts = (host_items(inputs.network, share.host, share.blocks, is_remote=True) for share in everyone)
    items = chain(
        first,
        chain.from_iterable(way_items(inputs, share) for share in everyone),
        chain.from_iterable(there),
        last,
        chain.from_iterable(hosts),
    )
    return as_mtu_allows(items, inputs.site.mtu)
