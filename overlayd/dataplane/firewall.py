"""The text of our nft tables. Pure.

Chains are named for the hook that they sit on and the job that they do there. The raw payload match `@th,96,24` is the
VNI: it begins 96 bits behind the start of the UDP header, which has 64; 32 are flags (RFC 7348 section 5).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from overlayd.dataplane import ownership
from overlayd.dataplane.items import HOST, NamespaceRef, NftFamily, NftTable, network_namespace
from overlayd.dataplane.uplink import disguise
from overlayd.model.address import Family, IpAddress
from overlayd.model.ids import InterfaceName, MacAddress, Vni
from overlayd.model.network import Network, Uplink

_WORDS = {Family.V4: "ip", Family.V6: "ip6"}
_TYPES = {Family.V4: "ipv4_addr", Family.V6: "ipv6_addr"}
_SETS = {Family.V4: "vteps", Family.V6: "vteps6"}


def vxlan_table(vnis: Iterable[Vni], vteps: Iterable[IpAddress], port: int) -> NftTable:
    """Return the host's table that lets in VXLAN packets of these networks from known VTEPs only.

    Packets of other VNIs on the same port belong to others. Those between known VTEPs are not tracked: connection
    tracking would only cost time. Port in host byte order.
    """
    ours = f"udp dport {port} @th,96,24 {{ {', '.join(str(vni) for vni in sorted(set(vnis)))} }}"
    known = sorted(vteps, key=lambda vtep: (vtep.version, int(vtep)))
    sets = [_address_set(family, [vtep for vtep in known if Family.of(vtep) is family]) for family in Family]
    arriving = [f"{ours} {_WORDS[family]} saddr @{_SETS[family]} notrack accept" for family in Family]
    arriving.append(f"{ours} fib daddr type local counter name forged_vxlan drop")
    leaving = [f"{ours} {_WORDS[family]} daddr @{_SETS[family]} notrack" for family in Family]
    chains = [
        chain("arriving", "type filter hook prerouting priority raw; policy accept;", arriving),
        chain("leaving", "type filter hook output priority raw; policy accept;", leaving),
    ]
    return table(HOST, NftFamily.INET, ownership.VXLAN_TABLE, ["counter forged_vxlan { }", *sets, *chains])


@dataclass(frozen=True, slots=True)
class Way:
    """A network's uplink as the host's rules see it: its device there, and whose packets come and go by it."""

    network: Network
    kind: Uplink
    device: InterfaceName


def host_table(ways: Iterable[Way], others: Iterable[InterfaceName] = ()) -> NftTable:
    """Return the host's table for these uplinks, and `others` of which only the device is known.

    What the host sends into a network is masqueraded, unless it comes from there, so that the answer finds the host
    again. So is what came in by the same uplink: a rule of the host (kube-proxy's, Docker's) has redirected it, and
    the answer must pass there too.
    """
    known = sorted(ways, key=lambda way: way.network.vni)
    closed = [way.device for way in known if not way.network.egress]
    sealed = [way.device for way in known if not way.network.egress and way.kind is Uplink.ISOLATED]
    passing = [
        "iifname != @uplinks oifname != @uplinks accept",
        "ct direction reply accept",
        "ct status dnat accept",
        "oifname @uplinks counter name between_networks drop",
        "iifname @closed counter name without_egress reject with icmpx admin-prohibited",
    ]
    arriving = ["ct direction original iifname @sealed counter name without_egress reject with icmpx admin-prohibited"]
    leaving = [rule for way in known for rule in _masquerades(way)]
    leaving.append("iifname @uplinks oifname != @uplinks masquerade")
    parts = [
        "counter between_networks { }",
        "counter without_egress { }",
        _name_set("uplinks", sorted({way.device for way in known} | set(others))),
        _name_set("closed", closed),
        _name_set("sealed", sealed),
        chain("passing", "type filter hook forward priority filter; policy accept;", passing),
        chain("arriving", "type filter hook input priority filter; policy accept;", arriving),
        chain("leaving", "type nat hook postrouting priority srcnat; policy accept;", leaving),
    ]
    return table(HOST, NftFamily.INET, ownership.TABLE, parts)


def _masquerades(way: Way) -> Iterator[str]:
    """Yield the rules for what goes into a network of which the host is a member."""
    if way.kind is Uplink.HOST:
        for family in sorted(way.network.families):
            ranges = _ranges(way.network, family)
            yield f'oifname "{way.device}" {_WORDS[family]} saddr != {ranges} masquerade'
        yield f'oifname "{way.device}" iifname "{way.device}" masquerade'


def inner_table(network: Network, own: Iterable[IpAddress]) -> NftTable:
    """Return the table in the namespace of an isolated network, in which its host has these addresses.

    All that leaves by the uplink hides behind one address, and what comes in (by a published port) behind an address of
    the network, so that the answer comes back. Containers among each other are not tracked.
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
    parts = [
        chain("untracked", "type filter hook prerouting priority raw; policy accept;", untracked),
        chain("leaving", "type nat hook postrouting priority srcnat; policy accept;", leaving),
    ]
    return table(network_namespace(network.name), NftFamily.INET, ownership.TABLE, parts)


def segment_table(network: Network, vtep: MacAddress) -> NftTable:
    """Return the table of a switched network's bridge, for a host whose tunnel end has this MAC.

    Containers of the segment know the host's own address by that MAC. It is a port's, and what another port sends to it
    would count as somebody else's (net/bridge/br_input.c takes the bridge's own MAC only for the host's).
    """
    rules = [f"ether daddr {vtep} meta pkttype set host"]
    arriving = chain("arriving", "type filter hook prerouting priority filter; policy accept;", rules)
    return table(network_namespace(network.name), NftFamily.BRIDGE, ownership.TABLE, [arriving])


def _ranges(network: Network, family: Family) -> str:
    return f"{{ {', '.join(str(pool.range) for pool in network.pools if pool.family is family)} }}"


def _name_set(name: str, devices: Iterable[InterfaceName]) -> str:
    elements = ", ".join(f'"{device}"' for device in devices)
    listed = f"\telements = {{ {elements} }}\n" if elements else ""
    return f"set {name} {{\n\ttype ifname\n{listed}}}"


def table(ns: NamespaceRef, family: NftFamily, name: str, parts: Iterable[str]) -> NftTable:
    """Return a table that has these parts."""
    body = "".join(f"\t{line}\n" for part in parts for line in part.splitlines())
    return NftTable(ns, family, name, f"table {family} {name} {{\n{body}}}\n")


def chain(name: str, hook: str, rules: Iterable[str]) -> str:
    """Return a chain at a hook."""
    lines = "".join(f"\t{line}\n" for line in (hook, *rules))
    return f"chain {name} {{\n{lines}}}"


def _address_set(family: Family, addresses: Iterable[IpAddress]) -> str:
    elements = ", ".join(str(address) for address in addresses)
    listed = f"\telements = {{ {elements} }}\n" if elements else ""
    return f"set {_SETS[family]} {{\n\ttype {_TYPES[family]}\n{listed}}}"
