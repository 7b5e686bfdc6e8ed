"""What the other hosts of a network add to its desired state on one host, kept host by host. Pure.

A change makes only the items of the hosts whose records it touches. All the rest is taken from what was there before.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

from overlayd.dataplane.desired import uplink
from overlayd.dataplane.desired.endpoint import as_mtu_allows
from overlayd.dataplane.desired.network_items import (
    NetworkInputs,
    RemoteShare,
    endpoint_items,
    host_items,
    way_items,
)
from overlayd.dataplane.items import Item
from overlayd.model import ids
from overlayd.model.address import IpAddress
from overlayd.model.block import Block
from overlayd.model.cluster import differing
from overlayd.model.endpoint import Endpoint
from overlayd.model.host import Host
from overlayd.model.ids import HostId, HostNumber, MacAddress
from overlayd.model.network import Network, Topology, Uplink

EntryClaim = HostNumber | MacAddress | IpAddress | tuple[str, IpAddress]
"""What only one of those who have something in a network may have: an entry of the kernel is made of it.

The tuple is the tunnel end of a host in a switched network, where it is an entry by itself.
"""


class RemotePart(NamedTuple):
    """What another host has in a network, and the items that this makes here."""

    share: RemoteShare
    items: tuple[Item, ...]


class EntryClaims:
    """How many claim each thing. A value: `changed` returns another one."""

    __slots__ = ("_counts", "contested")

    def __init__(self, counts: Mapping[EntryClaim, int] = MappingProxyType({}), contested: int = 0) -> None:
        self._counts = counts
        self.contested = contested
        """The number of things that more than one claims."""

    def changed(self, gone: Iterable[EntryClaim], come: Iterable[EntryClaim]) -> "EntryClaims":
        """Return the claims without those that are gone, of which each was made before, and with those that come."""
        counts, contested = dict(self._counts), self.contested
        for claim in gone:
            left = counts[claim] - 1
            contested -= left == 1
            if left:
                counts[claim] = left
            else:
                del counts[claim]
        for claim in come:
            found = counts[claim] = counts.get(claim, 0) + 1
            contested += found == 2  # noqa: PLR2004 - from the second one on
        return EntryClaims(counts, contested)


@dataclass(frozen=True, slots=True)
class Remotes:
    """The other hosts that have a record in a network.

    `parts` are those of the hosts that can be reached, and `unreachable` the others. `own` is what this host claims,
    and `claims` what all of them do.
    """

    parts: Mapping[HostId, RemotePart] = field(default_factory=lambda: MappingProxyType({}))
    unreachable: frozenset[HostId] = frozenset()
    own: tuple[EntryClaim, ...] = ()
    claims: EntryClaims = field(default_factory=EntryClaims)

    def have(self, host: HostId) -> bool:
        """Return whether a host has a record in the network."""
        return host in self.parts or host in self.unreachable

    def touched(
        self, before: NetworkInputs, inputs: NetworkInputs, moved: Collection[HostId]
    ) -> frozenset[HostId] | None:
        """Return the hosts whose parts may differ from those for the inputs `before`; None: all of them.

        `moved` are the hosts whose own records changed.
        """
        if _ground(before) != _ground(inputs):
            return None
        found = {block.host for block in chain(*differing(before.blocks, inputs.blocks))}
        if inputs.network.topology is Topology.SWITCHED:
            found |= {endpoint.host for endpoint in chain(*differing(before.endpoints, inputs.endpoints))}
        else:
            changed = chain(*differing(before.reservations, inputs.reservations))
            addresses = {address for reservation in changed for address in reservation.addresses}
            held = (table.get(address) for address in addresses for table in (before.reserved, inputs.reserved))
            found |= {each.holder.host for each in held if each and each.holder}
        found |= {host for host in moved if self.have(host)}
        return frozenset(found - {inputs.own.id})

    def changed(self, inputs: NetworkInputs, hosts: Mapping[HostId, Host], touched: Collection[HostId]) -> "Remotes":
        """Return the other hosts after those that were touched, and no more, have what the inputs say."""
        blocks, endpoints, reserved = _records_of(touched, inputs)
        members = {*blocks, *endpoints, *reserved}
        parts, gone, come = dict(self.parts), list[EntryClaim](), list[EntryClaim]()
        for id_ in touched:
            if before := parts.pop(id_, None):
                gone += _claims(inputs, before.share)
            host = hosts.get(id_) if id_ in members else None
            if host and inputs.is_reachable(host):
                share = RemoteShare(host, blocks.get(id_, ()), endpoints.get(id_, ()), reserved.get(id_, ()))
                come += _claims(inputs, share)
                parts[id_] = before if before and before.share == share else RemotePart(share, _items(inputs, share))
        own = _own_claims(inputs)
        if own != self.own:
            gone += self.own
            come += own
        claims = self.claims.changed(gone, come) if gone or come else self.claims
        unreachable = self.unreachable.difference(touched).union(members - parts.keys())
        return Remotes(MappingProxyType(parts), unreachable, own, claims)


def remotes(inputs: NetworkInputs, hosts: Mapping[HostId, Host]) -> Remotes:
    """Return all other hosts that have a record in a network."""
    everyone = {block.host for block in inputs.blocks.values()}
    everyone |= {endpoint.host for endpoint in inputs.endpoints.values()}
    everyone |= {each.holder.host for each in inputs.reserved.values() if each.holder}
    return Remotes().changed(inputs, hosts, everyone - {inputs.own.id})


_Blocks = dict[HostId, tuple[Block, ...]]
_Endpoints = dict[HostId, tuple[Endpoint, ...]]
_Reserved = dict[HostId, tuple[IpAddress, ...]]


def _records_of(hosts: Collection[HostId], inputs: NetworkInputs) -> tuple[_Blocks, _Endpoints, _Reserved]:
    """Return these hosts' records: blocks, endpoints in a switched network, reserved addresses in a routed one."""
    blocks, endpoints, reserved = _Blocks(), _Endpoints(), _Reserved()
    for block in [each for each in inputs.blocks.values() if each.host in hosts]:
        blocks[block.host] = (*blocks.get(block.host, ()), block)
    if inputs.network.topology is Topology.SWITCHED:
        for endpoint in [each for each in inputs.endpoints.values() if each.host in hosts]:
            endpoints[endpoint.host] = (*endpoints.get(endpoint.host, ()), endpoint)
    else:
        for address, reservation in inputs.reserved.items():
            if (holder := reservation.holder) and holder.host in hosts:
                reserved[holder.host] = (*reserved.get(holder.host, ()), address)
    return blocks, endpoints, reserved


def _ground(inputs: NetworkInputs) -> tuple[object, ...]:
    """Return the inputs on which the path to every other host depends, without those of the other hosts."""
    return (inputs.network, inputs.own.id, inputs.own.address, inputs.site.underlay, inputs.site.mtu)


def _items(inputs: NetworkInputs, share: RemoteShare) -> tuple[Item, ...]:
    network, host = inputs.network, share.host
    there = chain.from_iterable(endpoint_items(inputs, endpoint, host) for endpoint in share.endpoints)
    items = chain(way_items(inputs, share), there, host_items(network, host, share.blocks, is_remote=True))
    return tuple(as_mtu_allows(items, inputs.site.mtu))


def _claims(inputs: NetworkInputs, share: RemoteShare) -> Iterator[EntryClaim]:
    """Yield the claims of another host: its number, from which its entries derive, and in a switched network more."""
    yield share.host.number
    if inputs.network.topology is Topology.SWITCHED:
        yield ("tunnel end", share.host.address)
        for endpoint in share.endpoints:
            if not ids.is_own_mac(endpoint.mac):
                yield endpoint.mac
                yield from endpoint.addresses
        yield from _own_addresses(inputs.network, share.blocks)


def _own_claims(inputs: NetworkInputs) -> tuple[EntryClaim, ...]:
    """Return this host's claims: its number; in a switched network also endpoints' and shared addresses and MACs."""
    if inputs.network.topology is Topology.ROUTED:
        return (inputs.own.number,)
    local = (claim for each in inputs.local for claim in (each.mac, *each.addresses))
    shared = (address for address, reservation in inputs.reserved.items() if reservation.shared)
    return (inputs.own.number, *local, *shared, *_own_addresses(inputs.network, inputs.own_blocks))


def _own_addresses(network: Network, blocks: Iterable[Block]) -> tuple[IpAddress, ...]:
    return () if network.uplink is Uplink.NONE else uplink.own_addresses(network, blocks)
