"""From two states to a plan. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from overlayd.dataplane import ownership
from overlayd.dataplane.items import (
    HOST,
    Address,
    Bridge,
    BridgeEntry,
    DeviceSysctls,
    FdbEntry,
    Item,
    Link,
    Loopback,
    Namespace,
    NamespaceRef,
    Neighbour,
    NftTable,
    Other,
    RateLimit,
    Route,
    SoftwareChecksums,
    SourceGuard,
    State,
    Sysctl,
    Veth,
    VethPeer,
    Vxlan,
)
from overlayd.dataplane.plan import Add, Change, Delete, Op, Plan, Retire
from overlayd.model.ids import InterfaceName

_LINK_RANK: dict[type, int] = {Loopback: 0, Bridge: 1, Vxlan: 2, Veth: 3, Other: 3}
_FAR_END_RANK = 4
"""The end of a pair that comes with the other one."""

_ITEM_RANK: dict[type, int] = {
    Namespace: 0,
    DeviceSysctls: 0,
    Link: 1,
    Sysctl: 2,
    RateLimit: 3,
    SoftwareChecksums: 3,
    SourceGuard: 3,
    Address: 3,
    Neighbour: 4,
    FdbEntry: 4,
    BridgeEntry: 4,
    Route: 5,
    NftTable: 6,
}
"""A sandbox's device is there with the other end of its pair, and what its sysctls prevent must not happen when it is
set up. A device takes no IPv6 address while a sysctl forbids it."""

Sandbox = tuple[NamespaceRef, InterfaceName]
"""A device in a workload's namespace: where the far end of a veth pair is."""


def diff(desired: State, observed: State) -> Plan:
    """Return the operations that turn the observed into the desired state.

    The order is one table: namespaces and links that must go (what hangs on them goes with them), then additions and
    changes as namespace → link → address → neighbour and FDB → route → nft table, then the other deletions, reversed.
    So a route is never there without its neighbour and FDB entry, and a block that moves to another host is routed at
    every moment.

    Sandboxes are not observed: the items of a sandbox are planned exactly when the host's end of its veth pair is
    created or changed. The host's end is set up after all of them, so that an interrupted attachment is seen as one.
    """
    inside = frozenset(item for item in desired if not ownership.is_observed(item.ns))
    return between(desired - inside, observed, inside)


def between(wanted: State, observed: State, inside: State) -> Plan:
    """Return the same plan for callers that have the items of sandboxes (`inside`) apart."""
    # Differences of sets, as they do not hash what is in the sets once more: that takes longer than all the rest.
    # Almost all of a large state is as it should be: only the differences are keyed, ordered and looked at.
    lacking = wanted - observed
    has_more = len(wanted) - len(lacking) < len(observed)
    missing = {item.key: item for item in lacking}
    surplus = {item.key: item for item in observed - wanted} if has_more else {}
    gone = {key for key, item in surplus.items() if _must_go(item, missing.get(key))}
    if gone:
        missing.update((item.key, item) for item in wanted & observed if _hangs_on(item, gone))
    kept = {key: item for key, item in surplus.items() if key not in gone and not _hangs_on(item, gone)}

    sandboxes = _sandboxes(inside, missing.values())
    removals = [surplus[key] for key in gone if not _hangs_on(surplus[key], gone)]
    ops: list[Op] = [Delete(item) for item in sorted(removals, key=_rank, reverse=True)]
    for item in sorted(missing.values(), key=_rank):
        ops.extend(_towards(item, kept.get(item.key), sandboxes))
    leftovers = [item for key, item in kept.items() if key not in missing and not isinstance(item, Sysctl)]
    ops.extend(Delete(item) for item in sorted(leftovers, key=_rank, reverse=True))
    return Plan(tuple(ops))


def retain(desired: State, observed: State, tables: Collection[str] = (ownership.VXLAN_TABLE,)) -> State:
    """Return the desired state that keeps everything observed too, for the time before the feed is in sync.

    The host's tables stay as they are too: replacing one could delete known VTEPs.
    """
    kept = {item.key for item in observed if isinstance(item, NftTable) and item.ns == HOST and item.name in tables}
    wanted = {item for item in desired if item.key not in kept}
    keys = {item.key for item in wanted}
    return frozenset(wanted | {item for item in observed if item.key not in keys})


def restoration(lacking: State) -> Plan:
    """Return the operations that restore in sandboxes what the kernel removes when a device goes down.

    Everything else the workload may change: a smaller MTU, another MAC, settings.
    """
    goes = (Address, Neighbour, Route)
    items = [item for item in lacking if isinstance(item, goes) or (isinstance(item, Link) and _is_loopback(item))]
    return Plan(tuple(Add(item) for item in sorted(items, key=_rank)))


def _is_loopback(link: Link) -> bool:
    return isinstance(link.kind, Loopback)


def retirement(items: State) -> Plan:
    """Return the operations that take an endpoint's device out of use and delete what would stay behind."""
    devices = [item for item in items if isinstance(item, Link)]
    gone = {device.key for device in devices}
    # A static entry of a bridge outlives the time in which its port is up.
    others = [item for item in items if item.key not in gone]
    stay = [item for item in others if isinstance(item, BridgeEntry) or not _hangs_on(item, gone)]
    return Plan((*map(Delete, sorted(stay, key=_rank, reverse=True)), *map(Retire, devices)))


def _sandboxes(inside: Iterable[Item], missing: Iterable[Item]) -> Mapping[Sandbox, list[Item]]:
    """Return the desired items of the sandboxes whose veth pairs differ from the desired state, by device."""
    peers = (item.kind.peer for item in missing if isinstance(item, Link) and isinstance(item.kind, Veth))
    behind = {peer.ns for peer in peers if peer}
    found: dict[Sandbox, list[Item]] = defaultdict(list)
    for item in sorted((item for item in inside if item.ns in behind), key=_rank):
        name = item.name if isinstance(item, Link) else getattr(item, "dev", None)
        if name is not None:
            found[(item.ns, name)].append(item)
    return found


def _towards(item: Item, observed: Item | None, sandboxes: Mapping[Sandbox, list[Item]]) -> list[Op]:
    """Return the operations for one item of our namespaces, with those of the sandbox at its other end."""
    peer = item.kind.peer if isinstance(item, Link) and isinstance(item.kind, Veth) else None
    if not isinstance(item, Link) or peer is None:
        return [Change(item, observed) if observed else Add(item)]
    # What is written on a device is written with the last message, which sets it up.
    down = replace(item, up=False, alias="")
    if observed is None:
        return [Add(down), *(Add(inner) for inner in _inside(peer, sandboxes)), Change(item, down)]
    if isinstance(observed, Link) and replace(observed, alias=item.alias) == item:
        return [Change(item, observed)]  # an older agent left it blank: nothing in the sandbox is touched
    # The device is up; but with another MTU it may have no IPv6 yet, and so no sysctls of that.
    links_first = sorted(_inside(peer, sandboxes), key=lambda inner: not isinstance(inner, Link))
    return [*(Change(inner, inner) for inner in links_first), Change(item, observed)]


def _inside(peer: VethPeer, sandboxes: Mapping[Sandbox, list[Item]]) -> list[Item]:
    loopback = sandboxes.get((peer.ns, ownership.LOOPBACK), [])
    return [*loopback, *sandboxes.get((peer.ns, peer.name), [])]


def _must_go(observed: Item, wanted: Item | None) -> bool:
    """Return whether a namespace or link must be deleted: it is not desired, or not of this kind."""
    if wanted is None:
        return isinstance(observed, Namespace | Link)
    return isinstance(wanted, Link) and isinstance(observed, Link) and wanted.kind != observed.kind


def _hangs_on(item: Item, gone: set[tuple[object, ...]]) -> bool:
    """Return whether the kernel removes the item by itself together with a deleted one."""
    if isinstance(item, Namespace):
        return False
    if (Namespace, item.ns) in gone:
        return True
    match item:
        case Link() | NftTable():
            return False
        case Sysctl(ns=ns, name=name):
            devices = {key[2] for key in gone if key[:2] == (Link, ns)}
            return any(name in ownership.uplink_sysctls(InterfaceName(str(device))) for device in devices)
        case BridgeEntry(bridge=bridge, dev=dev):
            return (Link, item.ns, dev) in gone or (Link, item.ns, bridge) in gone
        case _:
            return (Link, item.ns, item.dev) in gone


def _rank(item: Item) -> tuple[int, int, str, str]:
    return (_ITEM_RANK[type(item)], _link_rank(item) if isinstance(item, Link) else 0, item.ns, repr(item.key))


def _link_rank(link: Link) -> int:
    comes_along = isinstance(link.kind, Veth) and link.kind.peer is None
    return _FAR_END_RANK if comes_along else _LINK_RANK[type(link.kind)]
