"""Problems that keep this host from carrying all traffic although its kernel is as desired. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from overlayd.agent.controllers.assignments import Holdings
from overlayd.agent.controllers.problem import Problem
from overlayd.agent.records.attachment_records import Stray
from overlayd.dataplane.desired import uplink
from overlayd.dataplane.desired.endpoint import IPV6_MTU_MIN
from overlayd.dataplane.desired.network_part import NetworkPart
from overlayd.dataplane.desired.resolve import Desired, UplinkChoice
from overlayd.dataplane.desired.site import Site
from overlayd.ipam.lifelines import Lifelines
from overlayd.model.address import Family
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import HostId, NetworkName
from overlayd.model.network import Uplink


@dataclass(frozen=True, slots=True)
class Shortcomings:
    """The problems and their inputs: those of a network are computed again when an input of it has changed."""

    choice: UplinkChoice = field(default_factory=UplinkChoice)
    isolated: tuple[Problem, ...] = ()
    networks: Mapping[NetworkName, tuple[NetworkPart, tuple[Problem, ...]]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    elsewhere: tuple[Problem, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All of them."""
        of_networks = (problem for _, problems in self.networks.values() for problem in problems)
        return (*self.isolated, *of_networks, *self.elsewhere)

    def of(self, cluster: Cluster, site: Site, desired: Desired, endpoints: Iterable[Endpoint]) -> "Shortcomings":
        """Return the problems for another desired state; `endpoints` are this host's."""
        networks: dict[NetworkName, tuple[NetworkPart, tuple[Problem, ...]]] = {}
        for name, part in sorted(desired.parts.items()):
            known = self.networks.get(name)
            networks[name] = known if known and known[0] is part else (part, tuple(_in_network(cluster, part)))
        without_part = (endpoint for endpoint in endpoints if endpoint.network not in desired.parts)
        return Shortcomings(
            desired.choice,
            self.isolated if desired.choice is self.choice else tuple(_isolated(desired.choice)),
            MappingProxyType(networks),
            tuple(_lost_addresses(cluster, site.host, without_part)),
        )


def _in_network(cluster: Cluster, part: NetworkPart) -> Iterator[Problem]:
    """Yield the problems of a network in which this host takes part."""
    network, site = part.inputs.network, part.inputs.site
    if Family.V6 in network.families and (reason := without_ipv6(site)):
        yield Problem(f"network {network.name}", reason, network.name)
    yield from _hosts_out_of_reach(cluster, part)
    yield from _lost_addresses(cluster, site.host, part.inputs.local)


def without_ipv6(site: Site) -> str | None:
    """Return why networks have no IPv6 on this host at present, None when they have."""
    if site.mtu >= IPV6_MTU_MIN:
        return None
    return f"no IPv6 on this host: it needs an MTU of {IPV6_MTU_MIN} bytes, and the underlay leaves {site.mtu}"


def _isolated(choice: UplinkChoice) -> Iterator[Problem]:
    """Yield the networks to which this host has no access because it needs an address in their range itself."""
    otherwise = uplink.choose(choice.networks, choice.routes, Lifelines())
    for network in sorted(choice.networks, key=lambda network: network.name):
        if otherwise[network.name] is Uplink.HOST:
            for conflict in choice.lifelines.conflicts(network):
                yield Problem(f"network {network.name}", f"isolated on this host, as {conflict}", network.name)


def unrecorded(strays: Iterable[Stray], set_aside: Iterable[Path]) -> Iterator[Problem]:
    """Yield a problem for each interface without a record, and for each damaged record."""
    for stray in sorted(strays, key=lambda stray: (stray.network, stray.device)):
        addresses = ", ".join(sorted(map(str, stray.addresses))) or "no address"
        message = (
            f"no record says which container it belongs to; it is left as it is, and {addresses} given to no other,"
            f" until the container ends, or a DEL for it, or: ip -n ov-{stray.network} link del {stray.device}"
        )
        yield Problem(f"interface {stray.device} of network {stray.network}", message, stray.network)
    for path in set_aside:
        message = f"the record of an attachment was damaged and is {path} now: remove that when it has been looked at"
        yield Problem("host", message)


def _hosts_out_of_reach(cluster: Cluster, part: NetworkPart) -> Iterator[Problem]:
    """Yield the hosts of a network whose tunnel end is of the other family, as a tunnel has one, or at our own."""
    inputs = part.inputs
    missing = [cluster.hosts[host] for host in sorted(part.others.unreachable) if host in cluster.hosts]
    owners = {block.host for block in inputs.blocks.values()} if missing else ()
    for remote in (host for host in missing if host.id in owners):
        if remote.address == inputs.own.address:
            message = (
                f"cannot be reached: it has given up its address {remote.address}, which is this host's now, and the"
                " one that it announces is not free (overlayctl host list)"
            )
            yield Problem(f"host {remote.name}", message, inputs.network.name)
        if Family.of(remote.address) is not inputs.site.underlay:
            message = (
                f"cannot be reached: its underlay address is {remote.address}, and this host's is an"
                f" IPv{inputs.site.underlay} one; give all hosts of a network addresses of one family (overlayd run"
                " --vtep)"
            )
            yield Problem(f"host {remote.name}", message, inputs.network.name)


def _lost_addresses(cluster: Cluster, host: HostId, endpoints: Iterable[Endpoint]) -> Iterator[Problem]:
    holdings = Holdings(cluster, host)
    for endpoint in endpoints:
        for address in endpoint.addresses:
            if address in holdings.kept(endpoint):
                continue
            reservation = holdings.reservation_at(endpoint.network, address)
            holder = reservation.holder if reservation else None
            where = (
                f"container {holder.container_id} on host {holder.host} has it now" if holder else "it has no holder"
            )
            name = f"endpoint {endpoint.network}/{endpoint.container_id}/{endpoint.interface}"
            yield Problem(name, f"lost its reserved address {address}: {where}", endpoint.network)
