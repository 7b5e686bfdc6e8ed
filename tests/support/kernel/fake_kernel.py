"""A kernel in memory. It refuses what Linux refuses, with the same errno; the contract tests hold both to it."""

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Interface
from types import UnionType

from overlayd.dataplane import ownership
from overlayd.dataplane.desired.new_endpoint import NewEndpoint
from overlayd.dataplane.items import (
    FLOOD,
    HOST,
    Address,
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
from overlayd.dataplane.render import opposite
from overlayd.kernel.apply.dependants import Failures
from overlayd.kernel.port import KernelError, Outcome, Surroundings, Underlay, first_not_done
from overlayd.model.address import IpAddress
from overlayd.model.errors import NotFound
from overlayd.model.ids import InterfaceName, MacAddress

Hung = (
    DeviceSysctls | RateLimit | SoftwareChecksums | SourceGuard | Address | Neighbour | FdbEntry | BridgeEntry | Route
)
Entry = Hung | NftTable | Sysctl
Device = tuple[NamespaceRef, InterfaceName]
Key = tuple[object, ...]


UNDERLAYS: Mapping[IpAddress, Underlay] = {IPv4Address("192.0.2.1"): Underlay("eth0", 1500)}


class SimulatedCrashError(Exception):
    """The process died in the middle of a plan."""


@dataclass(slots=True)
class Space:
    """What one network namespace holds."""

    number: int
    sysctls: frozenset[tuple[str, str]] = frozenset()
    links: dict[InterfaceName, Link] = field(default_factory=dict)
    entries: dict[Key, Entry] = field(default_factory=dict)

    def drop(self, kinds: type[Entry] | UnionType, device: InterfaceName) -> None:
        """Remove the entries of some kinds that hang on a device."""
        self.entries = {
            key: entry
            for key, entry in self.entries.items()
            if not (isinstance(entry, kinds) and _device(entry) == device)
        }


def _device(entry: Entry) -> InterfaceName | None:
    return None if isinstance(entry, NftTable | Sysctl) else entry.dev


def _refusal(code: int) -> KernelError:
    return KernelError(code, os.strerror(code))


class FakeKernel:
    """A host's kernel. `underlays` says which devices of the host hold which address."""

    def __init__(self, underlays: Mapping[IpAddress, Underlay] | None = None) -> None:
        self._underlays = dict(UNDERLAYS if underlays is None else underlays)
        self._spaces: dict[NamespaceRef, Space] = {}
        self._made = 0
        self._make_space(HOST)
        self._spaces[HOST].entries = {
            setting.key: setting for setting in (Sysctl(HOST, name, "0") for name in ownership.HOST_SYSCTLS)
        }
        self._peers: dict[Device, Device] = {}
        self._foreign: set[Key] = set()
        self._refuse_next: int | None = None
        self._crash_after: int | None = None
        self._suspect: set[NamespaceRef] = set()
        self._revived: set[Device] = set()
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.announced: list[tuple[InterfaceName, MacAddress, IpAddress]] = []
        """The announcements that devices sent, in order."""
        self.executed = 0
        """Operations that were executed so far."""
        self.failing: int | None = None
        """The errno with which every look at the kernel fails, if any."""
        self.unreadable: set[NamespaceRef] = set()
        """Namespaces of ours whose names lead to what the kernel does not let anybody open."""

    # What tests arrange.

    def add_sandbox(self, path: str) -> None:
        """Start a workload: its sandbox is a namespace with a loopback that is down."""
        self._make_space(NamespaceRef(path))

    def remove_sandbox(self, path: str) -> None:
        """End a workload; the host's ends of its veth pairs go with it."""
        self._remove_space(NamespaceRef(path))

    def alias_sandbox(self, path: str, ns: NamespaceRef) -> None:
        """Let a path lead to a namespace that has another name."""
        self._spaces[NamespaceRef(path)] = self._spaces[ns]

    def hide_sandbox(self, path: str) -> None:
        """Take a workload's path away, while its sandbox lives on."""
        ns, hidden = NamespaceRef(path), NamespaceRef(f"{path} (hidden)")
        space = self._spaces[hidden] = self._spaces.pop(ns)
        for name in space.links:
            if far := self._peers.pop((ns, name), None):
                self._peers |= {(hidden, name): far, far: (hidden, name)}

    def flap(self, path: str, name: InterfaceName) -> None:
        """Let a workload set its device down and up again: what hung on it is gone, but for IPv4 addresses."""
        ns = NamespaceRef(path)
        up = self._spaces[ns].links[name]
        self._set_link(replace(up, up=False))
        self._set_link(up)
        self._revived.add(self._peers[ns, name])
        os.eventfd_write(self._alarm, 1)

    def set_underlay(self, address: IpAddress, underlay: Underlay | None) -> None:
        """Give the host an underlay address on a device, or take the address away."""
        self._underlays.pop(address, None)
        if underlay:
            self._underlays[address] = underlay
        self._touched(HOST)

    def add_foreign(self, item: Item) -> None:
        """Make an item as another program would: it exists, and is foreign."""
        self._execute(Add(item))
        self._foreign.add(item.key)
        self._touched(item.ns)

    def remove_by_hand(self, item: Item) -> bool:
        """Remove an item as another program would; return whether it existed. `lo` cannot be removed, and goes down."""
        if self._find(item) is None:
            return False
        if isinstance(item, Link) and isinstance(item.kind, Loopback):
            self._set_link(replace(item, up=False))
        elif isinstance(item, Sysctl):
            self._put(replace(item, value=opposite(item)), replace_it=True)
        else:
            self._delete(item)
        self._touched(item.ns)
        return True

    def change_by_hand(self, item: Item, before: Item) -> None:
        """Change an item as another program would."""
        self._execute(Change(item, before))
        self._touched(item.ns)

    def devices(self, ns: NamespaceRef) -> set[str]:
        """Return the names of all devices in a namespace."""
        return set(self._space(ns).links)

    def fail_next(self, code: int) -> None:
        """Refuse the next operation with this errno."""
        self._refuse_next = code

    def mend(self) -> None:
        """Refuse nothing any more that a test asked to refuse."""
        self._refuse_next = self.failing = None

    def fail_after(self, count: int) -> None:
        """Die after this many more operations."""
        self._crash_after = count

    # The port.

    def namespaces(self) -> frozenset[NamespaceRef]:
        self._check_health()
        return frozenset(ns for ns in self._spaces if ownership.is_network_namespace(ns))

    def sandbox_id(self, sandbox: str) -> tuple[int, int] | None:
        self._check_health()
        space = self._spaces.get(NamespaceRef(sandbox))
        return (0, space.number) if space else None

    def own(self, sandbox_id: tuple[int, int]) -> NamespaceRef | None:
        ours = (ns for ns in self._spaces if ns == HOST or ownership.is_network_namespace(ns))
        return next((ns for ns in ours if (0, self._spaces[ns].number) == sandbox_id), None)

    def is_found(self, ns: NamespaceRef) -> bool:
        return ns in self._spaces

    def is_in_place(self, ns: NamespaceRef) -> bool:
        return ns in self._spaces

    def has_device(self, ns: NamespaceRef, name: InterfaceName) -> bool:
        self._check_health()
        return ns in self._spaces and name in self._spaces[ns].links

    def links(self, namespaces: Iterable[NamespaceRef]) -> frozenset[Link]:
        self._check_health()
        found = (link for ns in namespaces if ns in self._spaces for link in self._spaces[ns].links.values())
        return frozenset(link for link in found if ownership.owns(link))

    def observe(self, namespaces: Iterable[NamespaceRef]) -> State:
        self._check_health()
        asked = frozenset(namespaces)
        self._suspect -= asked
        return frozenset(item for ns in asked if ns in self._spaces for item in self._ours(ns))

    def missing(self, items: State) -> State:
        self._check_health()
        return frozenset(item for item in items if self._find(item) != item)

    def link(self, ns: NamespaceRef, name: InterfaceName) -> Link | None:
        self._check_health()
        space = self._spaces.get(ns)
        return space.links.get(name) if space else None

    def apply(self, plan: Plan) -> tuple[Outcome, ...]:
        self._check_health()
        if not self.unreadable.isdisjoint(op.item.ns for op in plan):
            raise _refusal(errno.EACCES)
        failures = Failures()
        return tuple(self._outcome(op, failures) for op in plan)

    def attach(self, endpoints: Sequence[NewEndpoint]) -> tuple[Outcome | None, ...]:
        return tuple(self._attached(each.plan) for each in endpoints)

    def _attached(self, plan: Plan) -> Outcome | None:
        try:
            return first_not_done(self.apply(plan))
        except KernelError as error:
            return Outcome(plan.ops[0], error)

    def reap(self, namespaces: Iterable[NamespaceRef]) -> None:
        self._check_health()
        for ns in namespaces:
            links = self._spaces[ns].links if ns in self._spaces else {}
            for name in [name for name in links if name.startswith(ownership.RETIRED_PREFIX)]:
                self._remove_link((ns, name))

    def leftovers(self) -> frozenset[NamespaceRef]:
        self._check_health()
        return frozenset(
            ns
            for ns, space in self._spaces.items()
            if ownership.is_network_namespace(ns)
            and any(name.startswith(ownership.RETIRED_PREFIX) for name in space.links)
        )

    def prepare(self) -> None:
        """There is nothing to load."""

    def revived(self) -> frozenset[Device]:
        found, self._revived = frozenset(self._revived), set()
        return found

    def announce(self, ns: NamespaceRef, dev: InterfaceName, mac: MacAddress, addresses: Iterable[IpAddress]) -> None:
        self._check_health()
        if not self._link(ns, dev).up:
            raise _refusal(errno.ENETDOWN)
        self.announced += [(dev, mac, address) for address in addresses]

    def underlay(self, address: IpAddress, peers: Iterable[IpAddress]) -> Underlay:  # noqa: ARG002 - all by all devices
        self._check_health()
        held = (entry for entry in self._spaces[HOST].entries.values() if isinstance(entry, Address))
        if any(entry.dev == ownership.LOOPBACK and entry.address.ip == address for entry in held):
            return Underlay(ownership.LOOPBACK, min(each.mtu for each in self._underlays.values()))
        if address not in self._underlays:
            raise NotFound(f"no device of this host has the address {address}")
        return self._underlays[address]

    def shortage(self) -> str | None:
        return None

    def fileno(self) -> int:
        return self._alarm

    def changed(self) -> frozenset[NamespaceRef]:
        self._check_health()
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._alarm)
        found, self._suspect = frozenset(self._suspect), set()
        return found

    def surroundings(self) -> Surroundings:
        self._check_health()
        foreign = [entry for key, entry in self._spaces[HOST].entries.items() if key in self._foreign]
        routes = [entry for entry in foreign if isinstance(entry, Route)]
        return Surroundings(
            frozenset(route.dst for route in routes if route.dst.prefixlen),
            frozenset(route.via for route in routes if route.via),
            frozenset(entry.address.ip for entry in foreign if isinstance(entry, Address)) | self._underlays.keys(),
            frozenset(route.dev for route in routes if route.dev and not route.dst.prefixlen),
        )

    def admit_uplinks(self) -> bool:
        return False  # there is no Docker

    def close(self) -> None:
        """Nothing in the kernel changes."""

    def __del__(self) -> None:
        os.close(self._alarm)

    def _check_health(self) -> None:
        if self.failing is not None:
            raise _refusal(self.failing)

    def _touched(self, ns: NamespaceRef) -> None:
        if ns == HOST or ownership.is_network_namespace(ns):
            self._suspect.add(ns)
            os.eventfd_write(self._alarm, 1)

    def _ours(self, ns: NamespaceRef) -> Iterator[Item]:
        space = self._spaces[ns]
        if ownership.is_network_namespace(ns):
            yield Namespace(ns, space.sysctls)
        yield from (link for link in space.links.values() if ownership.owns(link))
        for key, entry in space.entries.items():
            if key not in self._foreign and ownership.owns(entry):
                yield entry

    def _outcome(self, op: Op, failures: Failures) -> Outcome:
        if failures.forbid(op):
            failures.record(op)
            return Outcome(op, skipped=True)
        try:
            self._count()
            self._execute(op)
        except KernelError as error:
            failures.record(op)
            return Outcome(op, error)
        failures.record_success(op)
        return Outcome(op)

    def _count(self) -> None:
        if self._crash_after is not None:
            self._crash_after -= 1
            if self._crash_after < 0:
                self._crash_after = None
                raise SimulatedCrashError
        self.executed += 1
        if self._refuse_next is not None:
            code, self._refuse_next = self._refuse_next, None
            raise _refusal(code)

    def _execute(self, op: Op) -> None:
        if isinstance(op, Delete):
            self._delete(op.item)
            return
        if isinstance(op, Retire):
            self._retire(op.item)
            return
        match op.item:
            case Namespace() as namespace:
                if isinstance(op, Add):
                    self._make_space(namespace.ns)
                self._space(namespace.ns).sysctls = namespace.sysctls
            case Link() as link:
                if isinstance(op, Change) and isinstance(op.before, Link):
                    self._change_link(link, op.before)
                else:
                    self._add_link(link)
            case entry:
                self._put(entry, replace_it=isinstance(op, Change))

    def _space(self, ns: NamespaceRef) -> Space:
        if ns not in self._spaces:
            raise _refusal(errno.ENOENT)
        return self._spaces[ns]

    def _link(self, ns: NamespaceRef, name: InterfaceName | None) -> Link:
        links = self._space(ns).links
        if name is None or name not in links:
            raise _refusal(errno.ENODEV)
        return links[name]

    def _find(self, item: Item) -> Item | None:
        space = self._spaces.get(item.ns)
        if space is None:
            return None
        match item:
            case Namespace(ns=ns):
                return Namespace(ns, space.sysctls)
            case Link(name=name):
                return space.links.get(name)
            case _:
                return space.entries.get(item.key)

    def _make_space(self, ns: NamespaceRef) -> None:
        if ns in self._spaces:
            raise _refusal(errno.EEXIST)
        self._made += 1
        lo = Link(ns, ownership.LOOPBACK, Loopback(), None, None, up=False)
        self._spaces[ns] = Space(self._made, links={lo.name: lo})

    def _remove_space(self, ns: NamespaceRef) -> None:
        if space := self._spaces.get(ns):
            for name in list(space.links):
                self._remove_link((ns, name))
            del self._spaces[ns]

    def _add_link(self, link: Link) -> None:
        match link.kind:
            case Loopback() | Veth(peer=None):
                there = self._link(link.ns, link.name)
                self._set_link(replace(there, mtu=link.mtu, up=link.up))
                return
            case Veth(peer=VethPeer() as peer):
                self._check_new(link)
                self._add_peer(link, peer)
            case Vxlan() as vxlan:
                self._check_new(link)
                self._check_tunnel(vxlan)
            case _:
                self._check_new(link)
        kind = Veth() if isinstance(link.kind, Veth) else link.kind
        self._spaces[link.ns].links[link.name] = replace(link, kind=kind, alias="")

    def _check_new(self, link: Link) -> None:
        links = self._space(link.ns).links
        if link.port:
            self._link(link.ns, link.port.master)
        if isinstance(link.kind, Veth) and link.kind.peer:
            self._space(link.kind.peer.ns)
        if link.name in links:
            raise _refusal(errno.EEXIST)

    def _check_tunnel(self, wanted: Vxlan) -> None:
        """Refuse a VNI that the host's namespace has on this port already, in whatever namespace the device is."""
        kinds = (link.kind for space in self._spaces.values() for link in space.links.values())
        taken = {(kind.vni, kind.port) for kind in kinds if isinstance(kind, Vxlan)}
        if (wanted.vni, wanted.port) in taken:
            raise _refusal(errno.EEXIST)

    def _add_peer(self, link: Link, peer: VethPeer) -> None:
        sandbox = self._space(peer.ns)
        if peer.name in sandbox.links:
            raise _refusal(errno.EEXIST)
        sandbox.links[peer.name] = Link(peer.ns, peer.name, Veth(), peer.mac, link.mtu, up=False)
        near, far = (link.ns, link.name), (peer.ns, peer.name)
        self._peers |= {near: far, far: near}

    def _change_link(self, link: Link, before: Link) -> None:
        there = self._link(link.ns, link.name)
        if link.port != before.port:
            if link.port:
                self._link(link.ns, link.port.master)
            there = replace(there, port=link.port)
        if link.mac != before.mac:
            there = replace(there, mac=link.mac)
        if link.alias != before.alias:
            there = replace(there, alias=link.alias)
        if link.mtu != before.mtu or link == before:
            there = replace(there, mtu=link.mtu)
        if link.up != before.up or link == before:
            there = replace(there, up=link.up)
        self._set_link(there)

    def _set_link(self, link: Link) -> None:
        """Change a device, and drop what the kernel drops with the change."""
        space = self._spaces[link.ns]
        before = space.links[link.name]
        if before.up and not link.up:
            space.drop(Neighbour | Route, link.name)
            space.entries = {key: entry for key, entry in space.entries.items() if not _goes_down(entry, link.name)}
        if before.mac != link.mac:
            space.drop(Neighbour, link.name)
        if before.port and (link.port is None or link.port.master != before.port.master):
            space.drop(BridgeEntry, link.name)
        space.links[link.name] = link

    def _remove_link(self, device: Device) -> None:
        ns, name = device
        space = self._spaces[ns]
        del space.links[name]
        for setting in ownership.uplink_sysctls(name):
            space.entries.pop(Sysctl(ns, setting, "").key, None)
        space.drop(Hung, name)
        for other in list(space.links.values()):
            if other.port and other.port.master == name:
                self._set_link(replace(other, port=None))
        if far := self._peers.pop(device, None):
            del self._peers[far]
            self._remove_link(far)

    def _retire(self, link: Link) -> None:
        if link.name not in self._space(link.ns).links:
            return
        near = (link.ns, link.name)
        far = self._peers.get(near)
        self._put_aside(near)
        if far and isinstance(link.kind, Veth) and link.kind.peer and link.kind.peer.ns == far[0]:
            self._put_aside(far)

    def _put_aside(self, device: Device) -> None:
        """Set a device down and give it another name."""
        ns, name = device
        space = self._spaces[ns]
        self._set_link(replace(space.links[name], up=False))
        space.drop(Hung, name)
        self._made += 1
        other = InterfaceName(f"{ownership.RETIRED_PREFIX}{self._made}")
        space.links[other] = replace(space.links.pop(name), name=other)
        if far := self._peers.pop(device, None):
            self._peers |= {(ns, other): far, far: (ns, other)}

    def _delete(self, item: Item) -> None:
        there = self._find(item)
        if there is None:
            return
        match item:
            case Namespace(ns=ns):
                self._remove_space(ns)
            case Link(kind=Loopback()):
                raise _refusal(errno.EOPNOTSUPP)
            case Link(ns=ns, name=name):
                self._remove_link((ns, name))
            case Neighbour() | NftTable():
                del self._spaces[item.ns].entries[item.key]
            case Sysctl():
                pass  # it stays as it is
            case _ if there == item:
                del self._spaces[item.ns].entries[item.key]

    def _put(self, entry: Entry, *, replace_it: bool) -> None:
        entries = self._space(entry.ns).entries
        if (dev := _device(entry)) is not None:
            link = self._link(entry.ns, dev)
            if isinstance(entry, Route) and not link.up:
                raise _refusal(errno.ENETDOWN)
            if isinstance(entry, BridgeEntry) and link.port is None and entry.dev != entry.bridge:
                raise _refusal(errno.EOPNOTSUPP)
            if isinstance(entry, FdbEntry) and isinstance(link.kind, Vxlan):
                _check_family(entry, link.kind)
        # What the kernel appends, or learns from us, may be there already.
        repeatable = isinstance(entry, BridgeEntry | DeviceSysctls | SoftwareChecksums | NftTable | Sysctl) or (
            isinstance(entry, FdbEntry) and entry.mac == FLOOD
        )
        if entry.key in entries and not replace_it and not repeatable:
            raise _refusal(errno.EEXIST)
        entries[entry.key] = entry
        self._foreign.discard(entry.key)


def _check_family(entry: FdbEntry, tunnel: Vxlan) -> None:
    """Refuse a VTEP that the device cannot send to: it has an address of the other family."""
    if entry.dst.version != tunnel.local.version:
        raise _refusal(errno.EAFNOSUPPORT)


def _goes_down(entry: Entry, device: InterfaceName) -> bool:
    """Return whether an entry is an IPv6 address of a device: it goes when the device goes down."""
    return isinstance(entry, Address) and entry.dev == device and isinstance(entry.address, IPv6Interface)
