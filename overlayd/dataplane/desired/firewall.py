"""The text of our nft tables. Pure.

The raw payload match `@th,96,24` reads the VNI: 24 bits at offset 96 of the UDP header, behind its 64 bits and the 32
bits of flags (RFC 7348 section 5).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from overlayd.dataplane import ownership
from overlayd.dataplane.desired.uplink import disguise, host_side
from overlayd.dataplane.items import HOST, NamespaceRef, NftFamily, NftTable, network_namespace
from overlayd.model.address import Family, IpAddress
from overlayd.model.ids import InterfaceName, MacAddress, Vni
from overlayd.model.network import Network, Topology, Uplink
from overlayd.model.published_port import PORT_MAX, Published

_WORDS = {Family.V4: "ip", Family.V6: "ip6"}
_TYPES = {Family.V4: "ipv4_addr", Family.V6: "ipv6_addr"}
_SETS = {Family.V4: "vteps", Family.V6: "vteps6"}


_PROTOCOLS = {Family.V4: "ipv4", Family.V6: "ipv6"}

VXLAN_PORT = 4789
"""IANA's UDP port for VXLAN (RFC 7348 section 5), in host byte order."""

_NOT_TO_LOOPBACK = "ip daddr 127.0.0.0/8 counter name to_loopback drop"
"""For packets from elsewhere. No host may send this (RFC 1122 section 3.2.1.3). The kernel drops such packets as
martian, but only after it has translated a port that is published at 127.0.0.1, and not on devices with
`route_localnet`, which such ports need."""

_INVALID = "ct state invalid counter name invalid drop"
"""Packets that belong to no connection are not translated, so they would leave with the container's own address."""

_METADATA: Mapping[Family, tuple[str, ...]] = MappingProxyType(
    {
        Family.V4: ("169.254.0.0/16", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
        Family.V6: ("fd00:ec2::254", "fd20:ce::254"),
    }
)
"""The addresses of the metadata services of clouds, which describe a machine and give it credentials.

Most have a link-local IPv4 address, which no router forwards (RFC 3927 section 7); Azure, Alibaba and Oracle have
others. The IPv6 addresses are those of AWS and Google.
"""

_NOT_A_QUESTION = ("meta l4proto { tcp, udp } th dport 53 return", "udp dport 123 return")
"""Some clouds have name servers and time servers at these addresses, and containers may use those."""

_FIRST_FREE_PORT = 32768
"""The first ephemeral port of the kernel (ip-sysctl, ip_local_port_range); services listen on lower ones."""

_AS_A_CLIENT = (
    "iifname @uplinks oifname != @uplinks meta l4proto { tcp, udp, udplite, sctp, dccp }"
    f" th sport < {_FIRST_FREE_PORT} masquerade to :{_FIRST_FREE_PORT}-{PORT_MAX}"
)
"""Masquerade keeps the container's source port if it is free. Below 1024 that would be a privileged port of the host,
which NFS takes as a proof of root. At the port of a service, a container could answer in the name of that service."""

_SEGMENT_PROBES = ("tcp dport 1 accept", "tcp sport 1 accept")
"""The agents of a network probe each other with a TCP segment that belongs to no connection, and expect a reset."""


_HOST_COUNTERS = ("between_networks", "without_egress", "forged_tunnel", "to_loopback", "to_metadata", "invalid")


def vxlan_table(
    vnis: Iterable[Vni], vteps: Iterable[IpAddress], port: int, closed_ports: Collection[int], *, is_tracking: bool
) -> NftTable:
    """Return the host's table that admits VXLAN packets from known VTEPs only, and forbids users to send any.

    VNIs that are not ours are left alone: other software may use them on the same port. Packets between known VTEPs are
    not tracked, because connection tracking costs time and has no use here.

    Without tracking, the kernel does not reassemble fragments before these rules, and a first fragment may end before
    the VNI (RFC 791 allows 8 bytes of data), so packets for this host are checked once more after reassembly. With
    `is_tracking`, which our other table causes by its masquerade, it reassembles them before
    (NF_IP_PRI_CONNTRACK_DEFRAG comes before NF_IP_PRI_RAW), and that check is left out.

    Other hosts trust a VTEP by its address, from which every program of the host can send, also while the host is in no
    network. So only the kernel and root may send to any of `closed_ports`. Ports in host byte order.

    Every packet of a tunnel passes here, and each rule costs it time: what ends a rule soonest comes first.
    """
    # Packets of the kernel, and those of tunnels are, belong to no user: the rule ends there for them.
    sent = f'meta skuid != 0 oifname != "lo" udp dport {_listed(closed_ports)} counter name sent_by_users drop'
    # postrouting comes after every rule of the host that can redirect a packet.
    parts = [
        "counter sent_by_users { }",
        chain("sent", "type filter hook postrouting priority filter; policy accept;", [sent]),
    ]
    if ours := sorted(set(vnis)):
        parts += _from_vteps_only(ours, vteps, port, is_tracking=is_tracking)
    return table(HOST, NftFamily.INET, ownership.VXLAN_TABLE, parts)


def _from_vteps_only(vnis: Iterable[Vni], vteps: Iterable[IpAddress], port: int, *, is_tracking: bool) -> Iterator[str]:
    ours = f"udp dport {port} @th,96,24 {{ {', '.join(str(vni) for vni in vnis)} }}"
    known = sorted(vteps, key=lambda vtep: (vtep.version, int(vtep)))
    from_vteps = [f"{ours} {_WORDS[family]} saddr @{_SETS[family]}" for family in Family]
    forged = "counter name forged_vxlan drop"
    arriving = [*(f"{each} notrack accept" for each in from_vteps), f"{ours} fib daddr type local {forged}"]
    reassembled = [*(f"{each} accept" for each in from_vteps), f"{ours} {forged}"]
    yield "counter forged_vxlan { }"
    for family in Family:
        yield _address_set(family, [vtep for vtep in known if Family.of(vtep) is family])
    yield chain("arriving", "type filter hook prerouting priority raw; policy accept;", arriving)
    if not is_tracking:
        yield chain("reassembled", "type filter hook input priority filter; policy accept;", reassembled)
    yield chain("leaving", "type filter hook output priority raw; policy accept;", [f"{ours} notrack"])


@dataclass(frozen=True, slots=True)
class HostUplink:
    """A network's uplink as the host's rules need it: its kind, its device on the host, and the published ports."""

    network: Network
    kind: Uplink
    device: InterfaceName
    published: tuple[Published, ...] = ()


class Metadata(StrEnum):
    """Whether containers may use the metadata service of the cloud in which their host runs."""

    REFUSED = "refused"
    ALLOWED = "allowed"


def host_table(
    uplinks: Iterable[HostUplink], others: Iterable[InterfaceName], vxlan_ports: Collection[int], metadata: Metadata
) -> NftTable:
    """Return the host's table for these uplinks; of the uplinks in `others` only the device is known.

    Packets from the host into a network are masqueraded unless their source is in the network, so that answers come
    back to the host. So are packets that leave by the uplink on which they came: a rule of the host (of kube-proxy, of
    Docker) has redirected them, and the answer must pass that rule too.

    Other hosts trust VXLAN packets by their source address, and masqueraded packets of containers have the host's. So
    no packet that comes from an uplink may go to any of `vxlan_ports` (UDP, in host byte order). This is checked in the
    forward and input hooks, after every rule of the host that can redirect a packet, and before the rules that accept
    replies and published ports. Fragments do not evade it: where masquerade is in use the kernel reassembles them.

    Packets of tunnels arrive at the host too: what is not from an uplink leaves these rules at once.
    """
    known = sorted(uplinks, key=lambda uplink: uplink.network.vni)
    closed = [uplink.device for uplink in known if not uplink.network.egress]
    sealed = [uplink.device for uplink in known if not uplink.network.egress and uplink.kind is Uplink.ISOLATED]
    parts = [
        *(f"counter {name} {{ }}" for name in _HOST_COUNTERS),
        _name_set("uplinks", sorted({uplink.device for uplink in known} | set(others))),
        _name_set("closed", closed),
        _name_set("sealed", sealed),
        chain("metadata", "", [*_NOT_A_QUESTION, "counter name to_metadata reject with icmpx admin-prohibited"]),
        *_filters(_not_into_tunnels(vxlan_ports), metadata),
        *_translations(known),
    ]
    return table(HOST, NftFamily.INET, ownership.TABLE, parts)


def _filters(not_into_tunnels: str, metadata: Metadata) -> Iterator[str]:
    """Yield the chains that let packets pass, arrive at the host, and enter it, or not."""
    passing = [
        "iifname != @uplinks oifname != @uplinks accept",
        not_into_tunnels,
        _INVALID,
        "ct direction reply accept",
        *(_to_metadata() if metadata is Metadata.REFUSED else ()),
        "ct status dnat accept",
        "oifname @uplinks counter name between_networks drop",
        "iifname @closed counter name without_egress reject with icmpx admin-prohibited",
    ]
    arriving = [
        f'iifname != "{ownership.HOST_DEVICE_PREFIX}*" accept',
        "iifname != @uplinks accept",
        not_into_tunnels,
        f"ct state != established {_NOT_TO_LOOPBACK}",  # answers to the host itself have that address here
        "ct direction original iifname @sealed counter name without_egress reject with icmpx admin-prohibited",
        *_SEGMENT_PROBES,
        _INVALID,
    ]
    yield chain("passing", "type filter hook forward priority filter; policy accept;", passing)
    yield chain("arriving", "type filter hook input priority filter; policy accept;", arriving)


def _translations(uplinks: Sequence[HostUplink]) -> Iterator[str]:
    """Yield the chains that masquerade what leaves, and that redirect published ports."""
    leaving = [rule for uplink in uplinks for rule in _masquerades(uplink)]
    leaving += [_AS_A_CLIENT, "iifname @uplinks oifname != @uplinks masquerade"]
    yield chain("leaving", "type nat hook postrouting priority srcnat; policy accept;", leaving)
    ports = sorted(((uplink, each) for uplink in uplinks for each in uplink.published), key=lambda pair: pair[1].order)
    if redirections := [rule for uplink, each in ports for rule in _redirections(uplink, each)]:
        to_published = ["fib daddr type local jump published"]
        to_loopback = f'iifname != "lo" {_NOT_TO_LOOPBACK}'
        yield chain("entering", "type filter hook prerouting priority raw; policy accept;", [to_loopback])
        yield chain("published", "", redirections)
        yield chain("from_others", "type nat hook prerouting priority dstnat; policy accept;", to_published)
        yield chain("from_this_host", "type nat hook output priority -100; policy accept;", to_published)


def _not_into_tunnels(ports: Collection[int]) -> str:
    return f"iifname @uplinks udp dport {_listed(ports)} counter name forged_tunnel drop"


def _listed(ports: Collection[int]) -> str:
    return f"{{ {', '.join(str(port) for port in sorted(ports))} }}"


def _to_metadata() -> Iterator[str]:
    for family, addresses in _METADATA.items():
        yield f"iifname @uplinks oifname != @uplinks {_WORDS[family]} daddr {{ {', '.join(addresses)} }} jump metadata"


def _redirections(uplink: HostUplink, published: Published) -> Iterator[str]:
    """Yield the rules that redirect a port of the host to a container, or to the address that hides its network."""
    mapping = published.mapping
    for address in published.addresses:
        family = Family.of(address)
        if mapping.is_of(family):
            word = _WORDS[family]
            one = mapping.one_address
            at = f"{word} daddr {one}" if one else f"meta nfproto {_PROTOCOLS[family]}"
            hidden = uplink.kind is Uplink.ISOLATED
            target = disguise(uplink.network.vni, family) if hidden else address
            port = mapping.host_port if hidden else mapping.container_port
            yield f"{at} {mapping.transport} dport {mapping.host_port} dnat {word} to {_socket(target, port)}"


def _socket(address: IpAddress, port: int) -> str:
    return f"[{address}]:{port}" if Family.of(address) is Family.V6 else f"{address}:{port}"


def _masquerades(uplink: HostUplink) -> Iterator[str]:
    """Yield the rules that translate the source of packets from the host into a network."""
    if uplink.kind is Uplink.HOST:
        for family in sorted(uplink.network.families):
            ranges = _ranges(uplink.network, family)
            yield f'oifname "{uplink.device}" {_WORDS[family]} saddr != {ranges} masquerade'
        yield f'oifname "{uplink.device}" iifname "{uplink.device}" masquerade'
    else:
        # The sender's address may lie in a range of the network; the answer would then stay inside the network.
        for family in sorted(uplink.network.families):
            own = host_side(uplink.network.vni, family)
            yield f'oifname "{uplink.device}" snat {_WORDS[family]} to {own}'


def inner_table(
    network: Network, kind: Uplink, own: Iterable[IpAddress], published: Iterable[Published] = ()
) -> NftTable | None:
    """Return the table for a network's namespace, None when it needs none. `own` are the host's addresses in it."""
    is_forgeable = network.topology is Topology.ROUTED and Family.V6 in network.families
    parts = _against_forgery() if is_forgeable else []
    if kind is Uplink.ISOLATED:
        parts += _behind_one_address(network, own, published)
    return table(network_namespace(network.name), NftFamily.INET, ownership.TABLE, parts) if parts else None


def _against_forgery() -> list[str]:
    """Return the chain that drops IPv6 packets whose source is not routed to the device on which they came.

    It is strict reverse-path filtering, which the kernel has for IPv4 only (ip-sysctl, rp_filter 1).
    """
    rules = ["meta nfproto ipv6 iif != lo fib saddr . iif oif missing counter name forged_sources drop"]
    return [
        "counter forged_sources { }",
        chain("sources", "type filter hook prerouting priority raw - 1; policy accept;", rules),
    ]


def _behind_one_address(network: Network, own: Iterable[IpAddress], published: Iterable[Published]) -> list[str]:
    """Return the chains that hide an isolated network behind one address.

    Packets that leave by the uplink get that address as their source. Packets that come in, by a published port, get an
    address of the network, so that the answer comes back. Traffic between containers is not tracked.
    """
    mine = sorted(own, key=lambda address: (address.version, int(address)))
    first = {Family.of(address): address for address in reversed(mine)}
    untracked, leaving = [], []
    for family, address in sorted(first.items()):
        word = _WORDS[family]
        hidden = ", ".join(str(each) for each in mine if Family.of(each) is family)
        ranges = _ranges(network, family)
        untracked.append(f'iifname != "up0" {word} daddr {ranges} {word} daddr != {{ {hidden} }} notrack')
        leaving.append(f'oifname "up0" snat {word} to {disguise(network.vni, family)}')
        leaving.append(f'iifname "up0" snat {word} to {address}')
    passing = [f'iifname "up0" {_INVALID}', f'oifname "up0" {_INVALID}']
    parts = [
        "counter invalid { }",
        chain("untracked", "type filter hook prerouting priority raw; policy accept;", untracked),
        chain("passing", "type filter hook forward priority filter; policy accept;", passing),
        chain("leaving", "type nat hook postrouting priority srcnat; policy accept;", leaving),
    ]
    if arriving := [rule for each in published for rule in _inner_redirections(network, each)]:
        parts.append(chain("arriving", "type nat hook prerouting priority dstnat; policy accept;", arriving))
    return parts


def _inner_redirections(network: Network, published: Published) -> Iterator[str]:
    """Yield the rules that redirect ports of the address that hides an isolated network to containers."""
    mapping = published.mapping
    for address in published.addresses:
        family = Family.of(address)
        if mapping.is_of(family):
            word, target = _WORDS[family], _socket(address, mapping.container_port)
            at = f'iifname "up0" {word} daddr {disguise(network.vni, family)}'
            yield f"{at} {mapping.transport} dport {mapping.host_port} dnat {word} to {target}"


def segment_table(network: Network, vtep: MacAddress, own: Iterable[IpAddress]) -> NftTable:
    """Return the table of a switched network's bridge. `vtep` is the MAC of this host's tunnel end.

    Containers reach the host's own address by that MAC. It belongs to a bridge port, and the kernel would treat frames
    from other ports to it as frames for another machine (net/bridge/br_input.c: only the bridge's own MAC is local).

    Frames within one range must not be sent to the gateway. The kernel would resolve every address to which a container
    sends, also unused ones, and fill its neighbour table, which all namespaces of the machine share.
    """
    mine = {*own, *(gateway for pool in network.pools if (gateway := network.gateway(pool)))}
    rules = [f"ether daddr {vtep} meta pkttype set host"]
    for pool in network.pools:
        word = _WORDS[pool.family]
        kept = ", ".join(str(each) for each in sorted(mine, key=int) if each in pool.range)
        at = f"ether daddr {{ {ownership.GATEWAY_MAC}, {vtep} }} {word} saddr {pool.range} {word} daddr {pool.range}"
        rules.append(f"{at} {word} daddr != {{ {kept} }} counter name by_gateway drop")
    arriving = chain("arriving", "type filter hook prerouting priority filter; policy accept;", rules)
    parts = ["counter by_gateway { }", arriving]
    return table(network_namespace(network.name), NftFamily.BRIDGE, ownership.TABLE, parts)


def _ranges(network: Network, family: Family) -> str:
    return f"{{ {', '.join(str(pool.range) for pool in network.pools if pool.family is family)} }}"


def _name_set(name: str, devices: Iterable[InterfaceName]) -> str:
    elements = ", ".join(f'"{device}"' for device in devices)
    listed = f"\telements = {{ {elements} }}\n" if elements else ""
    return f"set {name} {{\n\ttype ifname\n{listed}}}"


def table(ns: NamespaceRef, family: NftFamily, name: str, parts: Iterable[str]) -> NftTable:
    """Return the table that consists of these parts."""
    body = "".join(f"\t{line}\n" for part in parts for line in part.splitlines())
    return NftTable(ns, family, name, f"table {family} {name} {{\n{body}}}\n")


def chain(name: str, hook: str, rules: Iterable[str]) -> str:
    """Return the text of a chain: a base chain with a hook, or without one the target of a jump."""
    lines = "".join(f"\t{line}\n" for line in (hook, *rules) if line)
    return f"chain {name} {{\n{lines}}}"


def _address_set(family: Family, addresses: Iterable[IpAddress]) -> str:
    elements = ", ".join(str(address) for address in addresses)
    listed = f"\telements = {{ {elements} }}\n" if elements else ""
    return f"set {_SETS[family]} {{\n\ttype {_TYPES[family]}\n{listed}}}"
