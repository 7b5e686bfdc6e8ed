"""The site: facts that hold on one host alone, in addition to the cluster. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from overlayd.dataplane.desired import firewall
from overlayd.ipam.lifelines import Lifeline
from overlayd.model.address import Family, IpNetwork
from overlayd.model.bandwidth import Bandwidth
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.ids import HostId, InterfaceName, NetworkName
from overlayd.model.network import Network
from overlayd.model.published_port import Published

VXLAN_OVERHEAD: Mapping[Family, int] = MappingProxyType({Family.V4: 50, Family.V6: 70})
"""Bytes that encapsulation adds over each family: inner Ethernet 14, VXLAN 8, UDP 8, IPv4 20 or IPv6 40 (RFC 7348
section 5)."""


@dataclass(frozen=True, slots=True)
class Site:
    """What holds on this host alone: its id, the underlay's family and MTU in bytes, the VXLAN port, foreign routes.

    The port is in host byte order. `foreign_routes` are the destinations of the host's routes that are not ours, and
    `lifelines` the addresses that the host must keep or reach, besides the other hosts'; `forgotten` are networks that
    containers here still use and the cluster has lost, or does not have on this host; `kept_uplinks` are the host's
    ends of uplinks of networks of which the agent knows nothing else; `published` are the host's ports that lead to its
    containers, and `bandwidths` the limits of endpoints that have any; `unguarded` are endpoints whose device has no
    source filter, and `out_of_reach` those whose sandbox exists but has no path; `handed_over` are endpoints whose
    runtime configures the interface in the sandbox; with `software_checksums` the underlay device cannot make the
    checksums of tunnelled packets; `former_vxlan_ports` are earlier values of the port, which other hosts may still
    use; `ways_out` are the devices of the default routes; `metadata` is whether containers may use a cloud's metadata
    service.
    """

    host: HostId
    underlay: Family
    underlay_mtu: int
    vxlan_port: int
    foreign_routes: frozenset[IpNetwork] = frozenset()
    lifelines: frozenset[Lifeline] = frozenset()
    forgotten: tuple[Network, ...] = ()
    kept_uplinks: frozenset[InterfaceName] = frozenset()
    published: tuple[Published, ...] = ()
    bandwidths: tuple[tuple[Endpoint, Bandwidth], ...] = ()
    unguarded: frozenset[EndpointKey] = frozenset()
    out_of_reach: frozenset[EndpointKey] = frozenset()
    handed_over: frozenset[EndpointKey] = frozenset()
    software_checksums: bool = False
    ways_out: frozenset[InterfaceName] = frozenset()
    former_vxlan_ports: frozenset[int] = frozenset()
    metadata: firewall.Metadata = firewall.Metadata.REFUSED

    @property
    def without_endpoints(self) -> "Site":
        """The site without the facts about this host's endpoints: what the paths to other hosts depend on."""
        return replace(
            self,
            published=(),
            bandwidths=(),
            unguarded=frozenset(),
            out_of_reach=frozenset(),
            handed_over=frozenset(),
            kept_uplinks=frozenset(),
        )

    @property
    def vxlan_ports(self) -> frozenset[int]:
        """The UDP ports at which hosts of this cluster or of another overlay may receive VXLAN packets."""
        return self.former_vxlan_ports | {self.vxlan_port, firewall.VXLAN_PORT}

    @property
    def mtu(self) -> int:
        """The MTU of every device of an overlay network, in bytes."""
        return self.underlay_mtu - VXLAN_OVERHEAD[self.underlay]

    def divided(self, networks: Collection[NetworkName]) -> Mapping[NetworkName, "Site"]:
        """Return for each of these networks the part of the site that concerns it alone."""
        bare = replace(
            self.without_endpoints,
            foreign_routes=frozenset(),
            lifelines=frozenset(),
            forgotten=(),
            ways_out=frozenset(),
        )
        with_endpoints = {each.network for each in self.published} | {each.network for each, _ in self.bandwidths}
        with_endpoints |= {network for network, *_ in (*self.unguarded, *self.out_of_reach, *self.handed_over)}
        return {name: self._in_network(bare, name) if name in with_endpoints else bare for name in networks}

    def _in_network(self, bare: "Site", name: NetworkName) -> "Site":
        return replace(
            bare,
            published=tuple(each for each in self.published if each.network == name),
            bandwidths=tuple(each for each in self.bandwidths if each[0].network == name),
            unguarded=frozenset(key for key in self.unguarded if key[0] == name),
            out_of_reach=frozenset(key for key in self.out_of_reach if key[0] == name),
            handed_over=frozenset(key for key in self.handed_over if key[0] == name),
        )
