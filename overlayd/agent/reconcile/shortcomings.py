"""What keeps this host from carrying all traffic although its kernel is as desired. Pure."""

from collections.abc import Iterable, Iterator

from overlayd.agent.controllers.assignments import Holdings
from overlayd.agent.controllers.problem import Problem
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.dataplane import uplink
from overlayd.dataplane.endpoint import IPV6_MTU_MIN
from overlayd.dataplane.resolve import lifelines
from overlayd.dataplane.site import Site
from overlayd.model.address import Family
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import HostId, NetworkName
from overlayd.model.lifelines import Lifelines
from overlayd.model.network import Uplink


def shortcomings(
    cluster: Cluster, site: Site, networks: Iterable[NetworkName], endpoints: Iterable[Endpoint]
) -> Iterator[Problem]:
    """Yield a problem for each; `networks` are those in which this host takes part, `endpoints` its own."""
    taking_part = frozenset(networks)
    for name in sorted(taking_part):
        if Family.V6 in cluster.networks[name].families and (reason := without_ipv6(site)):
            yield Problem(f"network {name}", reason, name)
    yield from _isolated(cluster, site, taking_part)
    yield from _hosts_out_of_reach(cluster, site, taking_part)
    yield from _lost_addresses(cluster, site.host, endpoints)


def without_ipv6(site: Site) -> str | None:
    """Return why networks have no IPv6 on this host for now, None when they have."""
    if site.mtu >= IPV6_MTU_MIN:
        return None
    return f"no IPv6 on this host: it needs an MTU of {IPV6_MTU_MIN} bytes, and the underlay leaves {site.mtu}"


def _isolated(cluster: Cluster, site: Site, names: frozenset[NetworkName]) -> Iterator[Problem]:
    """Yield the networks that this host would be a member of but for an address in their range that it needs."""
    networks = [*(cluster.networks[name] for name in sorted(names)), *site.forgotten]
    otherwise = uplink.choose(networks, site.foreign_routes, Lifelines())
    found = lifelines(cluster, site)
    for network in networks:
        if otherwise[network.name] is Uplink.HOST:
            for conflict in found.conflicts(network):
                yield Problem(f"network {network.name}", f"isolated on this host, as {conflict}", network.name)


def unrecorded(records: AttachmentRecords) -> Iterator[Problem]:
    """Yield a problem for each interface of which no record says whose it is, and for each record that is damaged."""
    for stray in sorted(records.strays, key=lambda stray: (stray.network, stray.device)):
        addresses = ", ".join(sorted(map(str, stray.addresses))) or "no address"
        message = (
            f"no record says which container it belongs to; it is left as it is, and {addresses} given to no other,"
            f" until the container ends, or a DEL for it, or: ip -n ov-{stray.network} link del {stray.device}"
        )
        yield Problem(f"interface {stray.device} of network {stray.network}", message, stray.network)
    for path in records.set_aside:
        message = f"the record of an attachment was damaged and is {path} now: remove that when it has been looked at"
        yield Problem("host", message)


def _hosts_out_of_reach(cluster: Cluster, site: Site, networks: frozenset[NetworkName]) -> Iterator[Problem]:
    """Yield the hosts of our networks whose tunnel end is of the other family, as a tunnel has one, or at our own."""
    shared = {(block.host, block.network) for block in cluster.blocks.values() if block.network in networks}
    own = cluster.hosts.get(site.host)
    for host, network in sorted(shared):
        remote = cluster.hosts.get(host)
        if own and remote and remote.id != own.id and remote.address == own.address:
            message = (
                f"cannot be reached: it has given up its address {remote.address}, which is this host's now, and the"
                " one that it announces is not free (overlayctl host list)"
            )
            yield Problem(f"host {remote.name}", message, network)
        if remote and Family.of(remote.address) is not site.underlay:
            message = (
                f"cannot be reached: its underlay address is {remote.address}, and this host's is an IPv{site.underlay}"
                " one; give all hosts of a network addresses of one family (overlayd run --vtep)"
            )
            yield Problem(f"host {remote.name}", message, network)


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
