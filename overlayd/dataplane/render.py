"""Operations as the equivalent commands of `ip`, `bridge`, `nft` and other tools."""

import shlex
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Interface
from pathlib import PurePath

from overlayd.dataplane.items import (
    BUCKET_TICK,
    FLOOD,
    HOST,
    Address,
    Bridge,
    BridgeEntry,
    BridgePort,
    DeviceSysctls,
    FdbEntry,
    Item,
    Link,
    Loopback,
    Namespace,
    NamespaceRef,
    Neighbour,
    NftTable,
    RateLimit,
    Route,
    SoftwareChecksums,
    SourceGuard,
    Sysctl,
    Veth,
    Vxlan,
)
from overlayd.dataplane.ownership import DEVICE_SYSCTLS, PROTOCOL


def _ip(ns: NamespaceRef) -> str:
    return "ip" if ns == HOST else f"ip -n {_short(ns)}"


def _bridge(ns: NamespaceRef) -> str:
    return f"bridge -n {_short(ns)}"


def _short(ns: NamespaceRef) -> str:
    """Return the argument of `ip -n` for a namespace: its name below /run/netns, or the whole path elsewhere."""
    path = PurePath(ns)
    return path.name if path.parent == PurePath("/run/netns") else ns


def added(item: Item) -> str:
    """Return the command that creates the item."""
    match item:
        case Namespace():
            return "; ".join([f"ip netns add {_short(item.ns)}", *_sysctls(item)])
        case Link():
            return _link_added(item)
        case NftTable() | DeviceSysctls() | SoftwareChecksums() | Sysctl():
            return _put(item)
        case FdbEntry(mac=mac):
            return _entry(item, "append" if mac == FLOOD else "add")
        case _:
            return _entry(item, "add")


def changed(item: Item, before: Item) -> str:
    """Return the command that turns `before` into the item."""
    match item, before:
        case Namespace(), Namespace():
            return "; ".join([*_sysctls(item), *_device_sysctls_of(item, before)])
        case Link(), Link():
            return _link_changed(item, before)
        case ((NftTable() | DeviceSysctls() | SoftwareChecksums() | Sysctl() as setting), _):
            return _put(setting)
        case _:
            return _entry(item, "replace")


def deleted(item: Item) -> str:
    """Return the command that removes the item."""
    match item:
        case Namespace():
            return f"ip netns del {_short(item.ns)}"
        case Link():
            return f"{_ip(item.ns)} link del {item.name}"
        case SoftwareChecksums():
            return _offload(item, "on")
        case NftTable():
            return f"{_inside(item.ns)}nft delete table {item.family} {item.name}"
        case _:
            return _sysctl(item.ns, item.name, opposite(item)) if isinstance(item, Sysctl) else _entry(item, "del")


def retired(link: Link) -> str:
    """Return the command that retires a veth pair."""
    return f"{_ip(link.ns)} link set {link.name} down # gets another name, and is deleted together with others"


def _inside(ns: NamespaceRef) -> str:
    """Return the prefix with which a command runs in a namespace, empty for the host's own."""
    return "" if ns == HOST else f"nsenter --net={ns} "


def _put(item: NftTable | DeviceSysctls | SoftwareChecksums | Sysctl) -> str:
    """Return the command for an item that is written in the same way whether or not it exists."""
    match item:
        case NftTable():
            return _table(item)
        case DeviceSysctls():
            return _device_sysctls(item)
        case SoftwareChecksums():
            return _offload(item, "off")
        case Sysctl():
            return _sysctl(item.ns, item.name, item.value)


def _offload(item: SoftwareChecksums, state: str) -> str:
    return f"nsenter --net={item.ns} ethtool -K {item.dev} tx {state}"


def _table(table: NftTable) -> str:
    """Return the command that creates or replaces a table."""
    return f"{_inside(table.ns)}nft -f - <<'END'\n{replacement(table)}END"


def replacement(table: NftTable) -> str:
    """Return the input with which ``nft -f`` creates or replaces a table in one transaction."""
    name = f"{table.family} {table.name}"
    return f"table {name}\ndelete table {name}\n{table.text}"


def _traffic_control(item: RateLimit | SourceGuard, verb: str) -> str:
    command = f"tc -n {_short(item.ns)}"
    if isinstance(item, SourceGuard):
        sources = ", ".join([item.mac, *sorted(map(str, item.addresses))])
        if item.ethertypes:
            sources += f"; EtherTypes {', '.join(f'0x{kind:04x}' for kind in sorted(item.ethertypes))} too"
        return f"{command} qdisc {verb} dev {item.dev} ingress" + (f" # only {sources}" if verb != "del" else "")
    burst = item.depth * BUCKET_TICK * item.rate // 1_000_000_000
    bucket = f"tbf rate {item.rate * 8}bit burst {burst}b limit {item.limit}b"
    return f"{command} qdisc {verb} dev {item.dev} root handle 6f76: {'' if verb == 'del' else bucket}".rstrip()


def _sysctls(namespace: Namespace) -> list[str]:
    return [_sysctl(namespace.ns, name, value) for name, value in sorted(namespace.sysctls)]


def _device_sysctls_of(namespace: Namespace, before: Namespace) -> Iterator[str]:
    """Yield the commands that give the sysctls of single devices the values of their namespace."""
    general = dict(namespace.sysctls)
    for name, _ in sorted(before.sysctls - namespace.sysctls):
        if "/" in name:
            *conf, _, setting = name.split("/")
            goes_by = DEVICE_SYSCTLS["/".join([*conf, "{}", setting])]
            yield _sysctl(namespace.ns, name, general.get(goes_by, "0"))


def opposite(setting: Sysctl) -> str:
    """Return the opposite value of a switch."""
    return "1" if setting.value == "0" else "0"


def _sysctl(ns: NamespaceRef, name: str, value: str) -> str:
    return f"{_inside(ns)}sysctl -w {name}={value}"


def _device_sysctls(item: DeviceSysctls) -> str:
    enter = f"nsenter --net={item.ns} sysctl -w net/ipv6/conf/{item.dev}"
    return "; ".join(f"{enter}/{name}={value}" for name, value in sorted(item.sysctls))


def _link_added(link: Link) -> str:
    if isinstance(link.kind, Loopback):
        return f"{_ip(link.ns)} link set lo up"
    if isinstance(link.kind, Veth) and link.kind.peer is None:
        return f"{_ip(link.ns)} link set {link.name} mtu {link.mtu} up"
    words = [_ip(link.ns), "link add", link.name, "address", str(link.mac), "mtu", str(link.mtu)]
    if link.port:
        words += ["master", link.port.master]
    if link.up:
        words += ["up"]
    words += _link_type(link)
    text = " ".join(words)
    return f"{text}; {_bridge_port(link.ns, link.name, link.port)}" if link.port else text


def _link_type(link: Link) -> list[str]:
    match link.kind:
        case Vxlan(vni=vni, local=local, port=port):
            return ["type vxlan id", str(vni), "local", str(local), "dstport", str(port), "nolearning"]
        case Bridge():
            return ["type bridge mcast_snooping 0"]
        case Veth(peer=peer) if peer:
            where = "1" if peer.ns == HOST else _short(peer.ns)
            return ["type veth peer name", peer.name, "address", peer.mac, "netns", where]
        case _:
            return []


def _link_changed(link: Link, before: Link) -> str:
    settings = ["address", str(link.mac)] if link.mac != before.mac else []
    if link.mtu != before.mtu or link == before:
        settings += ["mtu", str(link.mtu)] if link.mtu else []
    if link.alias != before.alias:
        settings += ["alias", shlex.quote(link.alias)]
    master, was = (end.port.master if end.port else None for end in (link, before))
    if master != was:
        settings += ["master", master] if master else ["nomaster"]
    if link.up != before.up or link == before:
        settings += ["up" if link.up else "down"]
    commands = [" ".join([_ip(link.ns), "link set", link.name, *settings])] if settings else []
    if link.port and link.port != before.port:
        commands.append(_bridge_port(link.ns, link.name, link.port))
    return "; ".join(commands)


def _bridge_port(ns: NamespaceRef, name: str, port: BridgePort) -> str:
    flags = {"learning": port.learning, "flood": port.unicast_flood, "neigh_suppress": port.neigh_suppress}
    words = " ".join(f"{flag} {'on' if value else 'off'}" for flag, value in flags.items())
    return f"{_bridge(ns)} link set dev {name} {words}"


def _entry(item: Item, verb: str) -> str:
    match item:
        case Address():
            nodad = " nodad" if isinstance(item.address, IPv6Interface) and verb != "del" else ""
            return f"{_ip(item.ns)} address {verb} {item.address} dev {item.dev}{nodad}"
        case Neighbour():
            what = f"{item.address} lladdr {item.mac} dev {item.dev} nud permanent"
            return f"{_ip(item.ns)} neighbour {verb} {what}"
        case FdbEntry() | BridgeEntry():
            return f"{_bridge(item.ns)} fdb {verb} {item.mac} dev {item.dev} {_forwarding(item)} extern_learn"
        case RateLimit() | SourceGuard():
            return _traffic_control(item, verb)
        case Route():
            return f"{_ip(item.ns)} route {verb} {_route(item)} proto {PROTOCOL}"
        case Namespace() | Link() | DeviceSysctls() | SoftwareChecksums() | NftTable() | Sysctl():
            return ""


def _forwarding(entry: FdbEntry | BridgeEntry) -> str:
    if isinstance(entry, FdbEntry):
        return f"dst {entry.dst} self permanent"
    return "self permanent" if entry.dev == entry.bridge else "master static"


def _route(route: Route) -> str:
    metric = f" metric {route.metric}" if route.metric else ""
    if route.dev is None:
        return f"unreachable {route.dst}{metric}"
    if route.via is None:
        return f"{route.dst} dev {route.dev} scope link{metric}"
    onlink = " onlink" if isinstance(route.via, IPv4Address) else ""
    return f"{route.dst} via {route.via} dev {route.dev}{onlink}{metric}"
