"""The text of our nft tables. Pure.

Chains are named for the hook that they sit on and the job that they do there. The raw payload match `@th,96,24` is the
VNI: it begins 96 bits behind the start of the UDP header, which has 64; 32 are flags (RFC 7348 section 5).
"""

from collections.abc import Iterable

from overlayd.dataplane import ownership
from overlayd.dataplane.items import HOST, NftFamily, NftTable
from overlayd.model.address import Family, IpAddress
from overlayd.model.ids import Vni

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
    return table(NftFamily.INET, ownership.VXLAN_TABLE, ["counter forged_vxlan { }", *sets, *chains])


def table(family: NftFamily, name: str, parts: Iterable[str]) -> NftTable:
    """Return a table of the host's namespace that has these parts."""
    body = "".join(f"\t{line}\n" for part in parts for line in part.splitlines())
    return NftTable(HOST, family, name, f"table {family} {name} {{\n{body}}}\n")


def chain(name: str, hook: str, rules: Iterable[str]) -> str:
    """Return a chain at a hook."""
    lines = "".join(f"\t{line}\n" for line in (hook, *rules))
    return f"chain {name} {{\n{lines}}}"


def _address_set(family: Family, addresses: Iterable[IpAddress]) -> str:
    elements = ", ".join(str(address) for address in addresses)
    listed = f"\telements = {{ {elements} }}\n" if elements else ""
    return f"set {_SETS[family]} {{\n\ttype {_TYPES[family]}\n{listed}}}"
