"""From the cluster and the workloads of this host to the desired state. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from types import MappingProxyType
from typing import Self

from overlayd.dataplane import ownership
from overlayd.dataplane.desired import firewall, uplink
from overlayd.dataplane.desired.endpoint import as_mtu_allows
from overlayd.dataplane.desired.network_items import NetworkInputs, network_items
from overlayd.dataplane.desired.network_part import NetworkPart, network_part, one_for_each_key
from overlayd.dataplane.desired.site import Site
from overlayd.dataplane.items import (
    HOST,
    Address,
    Item,
    Link,
    Namespace,
    NamespaceRef,
    SoftwareChecksums,
    State,
    Sysctl,
    network_namespace,
)
from overlayd.ipam.lifelines import Lifeline, Lifelines, of_hosts
from overlayd.model.address import Family, IpAddress, IpNetwork
from overlayd.model.block import Block, BlockKey
from overlayd.model.cluster import Cluster, differing
from overlayd.model.endpoint import Endpoint
from overlayd.model.host import Host
from overlayd.model.ids import HostId, NetworkName
from overlayd.model.network import Network, Uplink


@dataclass(frozen=True, slots=True)
class Membership:
    """The networks in which a host takes part, in the cluster's order: those of which it owns a block.

    `blocks` are those that it owns; `tables` are the tables of blocks that were searched, by network.
    """

    host: HostId | None = None
    blocks: Mapping[NetworkName, tuple[Block, ...]] = field(default_factory=lambda: MappingProxyType({}))
    tables: Mapping[NetworkName, Mapping[BlockKey, Block]] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, cluster: Cluster, host: HostId) -> "Membership":
        """Return the membership of a host in a cluster; only tables that this one has not searched are searched."""
        if host not in cluster.hosts:
            return Membership()
        tables = {name: cluster.blocks.of(name) for name in cluster.networks}
        known = self.tables if host == self.host else {}
        blocks: dict[NetworkName, tuple[Block, ...]] = {}
        for name, table in tables.items():
            is_known = known.get(name) is table
            mine = self.blocks.get(name) if is_known else tuple(b for b in table.values() if b.host == host)
            if mine:
                blocks[name] = mine
        return Membership(host, MappingProxyType(blocks), MappingProxyType(tables))


def joined(cluster: Cluster, host: HostId) -> frozenset[NetworkName]:
    """Return the networks in which a host takes part."""
    return frozenset(Membership().of(cluster, host).blocks)


@dataclass(frozen=True, slots=True)
class UplinkChoice:
    """The kinds of the uplinks of networks on a host, with those that the cluster lost, and their inputs."""

    networks: tuple[Network, ...] = ()
    routes: frozenset[IpNetwork] = frozenset()
    lifelines: Lifelines = field(default_factory=Lifelines)
    kinds: Mapping[NetworkName, Uplink] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, networks: tuple[Network, ...], site: Site, lifelines: Lifelines) -> "UplinkChoice":
        """Return the choice for these networks; this one when they are unchanged."""
        networks += site.forgotten
        if self.lifelines is lifelines and (self.networks, self.routes) == (networks, site.foreign_routes):
            return self
        kinds = uplink.choose(networks, site.foreign_routes, lifelines)
        return UplinkChoice(networks, site.foreign_routes, lifelines, MappingProxyType(kinds))


@dataclass(frozen=True, slots=True)
class HostSide:
    """The desired state of the host's own namespace, and its inputs: each table of nftables, and the rest."""

    vteps: frozenset[IpAddress] = frozenset()
    vxlan_sources: tuple[object, ...] = ()
    vxlan_table: tuple[Item, ...] = ()
    sources: tuple[object, ...] = ()
    state: State = frozenset()

    def of(self, vteps: frozenset[IpAddress], site: Site, choice: UplinkChoice, parts: Sequence[NetworkPart]) -> Self:
        """Return the desired state for these inputs; this one when the inputs are unchanged."""
        vnis = tuple(part.inputs.network.vni for part in parts)
        ways = _ways(parts, choice, site)
        has_uplinks = bool(ways or site.kept_uplinks)
        vxlan_sources = (vteps, vnis, site.vxlan_port, site.vxlan_ports, has_uplinks)
        table = self.vxlan_table
        if vxlan_sources != self.vxlan_sources:
            ports = (site.vxlan_port, site.vxlan_ports)
            table = (firewall.vxlan_table(vnis, vteps, *ports, is_tracking=has_uplinks),)
        others = (ways, site.kept_uplinks, site.vxlan_ports, site.metadata)
        sources = (table, others, site.ways_out, tuple(part.on_host for part in parts))
        if sources == self.sources:
            return self if vteps is self.vteps else replace(self, vteps=vteps, vxlan_sources=vxlan_sources)
        items = list(chain.from_iterable(part.on_host for part in parts))
        if any(part.inputs.kind is not Uplink.NONE and Family.V4 in part.inputs.network.families for part in parts):
            # What comes back to containers from the world outside comes in there.
            items += (Sysctl(HOST, ownership.forwarding_sysctl(dev), "1") for dev in site.ways_out)
        items += table
        if has_uplinks:
            items.append(firewall.host_table(*others))
        state = frozenset(one_for_each_key(items))
        return replace(
            self,
            vteps=vteps,
            vxlan_sources=vxlan_sources,
            vxlan_table=table,
            sources=sources,
            state=self.state if state == self.state else state,
        )


@dataclass(frozen=True, slots=True)
class Desired:
    """What this host's kernel should hold, by network namespace, and the inputs of that.

    `spaces` that a change leaves alone are the same objects as before. `sandboxes` has the items of containers'
    namespaces, network by network.
    """

    hosts: Mapping[HostId, Host] = field(default_factory=lambda: MappingProxyType({}))
    vital: frozenset[Lifeline] = frozenset()
    membership: Membership = field(default_factory=Membership)
    choice: UplinkChoice = field(default_factory=UplinkChoice)
    parts: Mapping[NetworkName, NetworkPart] = field(default_factory=lambda: MappingProxyType({}))
    host_side: HostSide = field(default_factory=HostSide)
    sandboxes: Mapping[NamespaceRef, tuple[Item, ...]] = field(default_factory=lambda: MappingProxyType({}))
    spaces: Mapping[NamespaceRef, State] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def state(self) -> State:
        """All of it."""
        return frozenset[Item]().union(*self.spaces.values())

    def of(self, cluster: Cluster, site: Site, endpoints: Iterable[Endpoint]) -> "Desired":
        """Return the desired state for another cluster; parts of this one whose inputs are unchanged are reused.

        A host takes part in a network while it owns a block of it. Local endpoints come from the host itself
        (`endpoints`) and never from the cluster, so that attachments go on while no controller can be reached.
        """
        if site.host not in cluster.hosts:
            return Desired()
        membership = self.membership.of(cluster, site.host)
        networks = tuple(cluster.networks[name] for name in membership.blocks)
        choice = self.choice.of(networks, site, self._lifelines(cluster, site))
        moved = _moved(self.hosts, cluster.hosts)
        parts: dict[NetworkName, NetworkPart] = {}
        for inputs in self._inputs(cluster, membership, choice, site, endpoints):
            before = self.parts.get(inputs.network.name)
            is_same = before and before.inputs.are(inputs) and not any(map(before.others.have, moved))
            part = before if before and is_same else network_part(inputs, cluster.hosts, before, moved)
            parts[inputs.network.name] = part
        vteps = self._vteps(cluster, site)
        host_side = self.host_side.of(vteps, site, choice, tuple(parts.values()))
        sandboxes = _sandboxes(parts.values())
        spaces = {
            HOST: host_side.state,
            **{network_namespace(name): part.state for name, part in parts.items()},
            **{ns: self._inside(ns, items) for ns, items in sandboxes.items()},
        }
        return Desired(
            cluster.hosts, site.lifelines, membership, choice, parts, host_side, sandboxes, MappingProxyType(spaces)
        )

    def devices(self, network: NetworkName, cluster: Cluster, site: Site) -> State:
        """Return the namespace and the devices of one network, as `of` has them; none where this host has no block.

        That takes a small part of the time of all that the network has here in a large cluster.
        """
        membership = self.membership.of(cluster, site.host)
        networks = tuple(cluster.networks[name] for name in membership.blocks)
        choice = self.choice.of(networks, site, self._lifelines(cluster, site))
        blocks = {name: blocks for name, blocks in membership.blocks.items() if name == network}
        alone = replace(membership, blocks=MappingProxyType(blocks))
        every = self._inputs(cluster, alone, choice, site, ())
        items = chain.from_iterable(as_mtu_allows(network_items(inputs), site.mtu) for inputs in every)
        return frozenset(item for item in items if isinstance(item, Namespace | Link | Address | SoftwareChecksums))

    def _lifelines(self, cluster: Cluster, site: Site) -> Lifelines:
        is_same = self.hosts is cluster.hosts and self.vital == site.lifelines
        return self.choice.lifelines if is_same else lifelines(cluster, site)

    def _vteps(self, cluster: Cluster, site: Site) -> frozenset[IpAddress]:
        if self.hosts is cluster.hosts:
            return self.host_side.vteps
        return frozenset(other.address for other in cluster.hosts.values() if other.id != site.host)

    def _inside(self, ns: NamespaceRef, items: tuple[Item, ...]) -> State:
        return self.spaces[ns] if self.sandboxes.get(ns) == items else frozenset(one_for_each_key(items))

    def _inputs(
        self,
        cluster: Cluster,
        membership: Membership,
        choice: UplinkChoice,
        site: Site,
        endpoints: Iterable[Endpoint],
    ) -> Iterator[NetworkInputs]:
        """Yield the inputs of each network's desired state."""
        local: dict[NetworkName, list[Endpoint]] = {}
        for endpoint in endpoints:
            local.setdefault(endpoint.network, []).append(endpoint)
        sites = site.divided(membership.blocks.keys())
        for name, blocks in membership.blocks.items():
            reservations, before = cluster.reservations.of(name), self.parts.get(name)
            is_known = before and before.inputs.reservations is reservations
            yield NetworkInputs(
                cluster.networks[name],
                cluster.hosts[site.host],
                blocks,
                choice.kinds[name],
                tuple(local.get(name, ())),
                sites[name],
                cluster.blocks.of(name),
                cluster.endpoints.of(name),
                reservations,
                before.inputs.reserved if before and is_known else cluster.reserved(name),
            )


def _sandboxes(parts: Iterable[NetworkPart]) -> Mapping[NamespaceRef, tuple[Item, ...]]:
    """Return what each network has in each sandbox; a container may be in several networks."""
    found: dict[NamespaceRef, tuple[Item, ...]] = {}
    for part in parts:
        for ns, items in part.sandboxes.items():
            found[ns] = (*found[ns], *items) if ns in found else items
    return MappingProxyType(found)


def resolve(cluster: Cluster, site: Site, endpoints: Iterable[Endpoint]) -> State:
    """Return what this host's kernel should hold: its networks, the paths to their other hosts, and its endpoints."""
    return Desired().of(cluster, site, endpoints).state


def lifelines(cluster: Cluster, site: Site) -> Lifelines:
    """Return the addresses that no network's range may divert on this host."""
    return Lifelines([*of_hosts(cluster.hosts.values()), *site.lifelines])


def _moved(before: Mapping[HostId, Host], after: Mapping[HostId, Host]) -> frozenset[HostId]:
    """Return the hosts whose records are not the same in two tables."""
    return frozenset(host.id for host in chain(*differing(before, after)))


def _ways(parts: Iterable[NetworkPart], choice: UplinkChoice, site: Site) -> tuple[firewall.HostUplink, ...]:
    """Return the uplinks as the host's rules need them, with those of networks that the cluster lost."""
    known = [(part.inputs.network, part.inputs.site.published) for part in parts]
    forgotten = site.divided([network.name for network in site.forgotten])
    known += [(network, forgotten[network.name].published) for network in site.forgotten]
    return tuple(
        firewall.HostUplink(network, choice.kinds[network.name], uplink.host_device(network.vni), published)
        for network, published in known
        if choice.kinds[network.name] is not Uplink.NONE
    )
