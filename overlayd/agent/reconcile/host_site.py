"""The site of this host, computed from facts and settings. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from overlayd.agent.reconcile.facts import Facts
from overlayd.agent.reconcile.local import Local
from overlayd.dataplane.desired.site import Site
from overlayd.model.address import Family, IpAddress, alone
from overlayd.model.bandwidth import UNLIMITED
from overlayd.model.cluster import Cluster
from overlayd.model.ids import NetworkName
from overlayd.model.network import Network
from overlayd.model.published_port import Published
from overlayd.model.reservation import Reservation, lost_addresses


def site_of(
    facts: Facts, local: Local, cluster: Cluster, used: Mapping[NetworkName, Network], *, software_checksums: bool
) -> Site | None:
    """Return this host's site, None when the cluster does not know the host. `used` are its networks as last known."""
    me = cluster.hosts.get(local.host)
    if me is None or facts.mtu is None:
        return None
    site = Site(
        local.host,
        Family.of(me.address),
        facts.mtu,
        local.vxlan_port,
        # What this host asks its nameservers is lost as what follows its routes is.
        facts.surroundings.routes | {alone(address) for address in facts.nameservers},
        facts.lifelines,
        tuple(used[name] for name in sorted(facts.unknown) if name in used),
        facts.kept_uplinks,
        former_vxlan_ports=local.former_vxlan_ports,
        metadata=local.metadata,
    )
    return with_endpoints(site, facts, cluster, software_checksums=software_checksums)


def with_endpoints(site: Site, facts: Facts, cluster: Cluster, *, software_checksums: bool) -> Site:
    """Return a site with what depends on endpoints, and with the other facts of this host."""
    return replace(
        site,
        published=_published(facts, cluster),
        bandwidths=tuple((a.endpoint, a.bandwidth) for a in facts.present if a.bandwidth != UNLIMITED),
        out_of_reach=facts.out_of_reach,
        unguarded=frozenset(each.endpoint.key for each in facts.present if not each.is_guarded),
        handed_over=frozenset(each.endpoint.key for each in facts.present if each.is_handed_over),
        software_checksums=software_checksums,
        ways_out=facts.surroundings.ways_out,
    )


def remembered(
    used: Mapping[NetworkName, Network], cluster: Cluster, networks: frozenset[NetworkName]
) -> Mapping[NetworkName, Network]:
    """Return the networks that endpoints here use, as the cluster has or had them: they outlive a lost store."""
    now = ((name, cluster.networks.get(name) or used.get(name)) for name in networks)
    return {name: network for name, network in now if network}


def _published(facts: Facts, cluster: Cluster) -> tuple[Published, ...]:
    """Return the published ports of endpoints, without the addresses that these have lost."""
    found: list[Published] = []
    reserved = dict[NetworkName, Mapping[IpAddress, Reservation]]()
    for attachment in facts.present:
        if ports := attachment.ports:
            endpoint = attachment.endpoint
            if endpoint.network not in reserved:
                reserved[endpoint.network] = cluster.reserved(endpoint.network)
            lost = lost_addresses(endpoint, reserved[endpoint.network])
            kept = tuple(address for address in endpoint.addresses if address not in lost)
            found += (Published(endpoint.network, kept, mapping) for mapping in ports)
    return tuple(sorted(found, key=lambda published: published.order))
