"""The content of a namespace of ours as this agent knows it: what it observed there, and what it changed since.

The kernel reports every change, and does not always say which process made it. A notification about an object in the
known state is no news: the echo of the agent's own change, or a carrier that changes.
"""

import socket
from collections.abc import Iterable, Mapping, Sequence

from overlayd.dataplane import ownership
from overlayd.dataplane.items import BridgeEntry, FdbEntry, Item, Link, Namespace, NamespaceRef
from overlayd.dataplane.plan import Delete, Op, Retire
from overlayd.kernel.netlink.decoding import link_reading, neighbour_reading, values
from overlayd.kernel.netlink.rtnetlink import (
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELNETCONF,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWNETCONF,
)
from overlayd.model.ids import InterfaceName, MacAddress

_UNREAD_MAX = 1000
"""Operations that are kept until a notification comes to compare them with."""

Notification = tuple[int, bytes]
"""Type and payload."""

Devices = Mapping[bytes, link_reading.Device]
"""Links by the payloads of the notifications about them."""

_LINK_KINDS = frozenset({RTM_NEWLINK, RTM_DELLINK})


def decoded(notifications: Iterable[Notification]) -> Devices:
    """Return the links that matter in notifications: each as it is in the last one, and tunnels in every one.

    To decode one takes longer than all else here, and to attach and detach a container causes eight. A notification
    about a link's place in a bridge is none about the link.
    """
    payloads = [
        payload for kind, payload in notifications if kind in _LINK_KINDS and values.family(payload) != socket.AF_BRIDGE
    ]
    last = {values.link_index(payload): payload for payload in payloads}
    tunnels = filter(link_reading.may_be_tunnel, payloads)
    return {payload: link_reading.device(payload) for payload in (*last.values(), *tunnels)}


class Beliefs:
    """The known links, forwarding entries and sysctls of one namespace."""

    def __init__(self, ns: NamespaceRef) -> None:
        self._sysctls: frozenset[tuple[str, str]] | None = None
        self._ns = ns
        self._seen: Iterable[Item] = ()
        self._done: list[Op] = []
        self._names: dict[int, InterfaceName] = {}
        self._links: dict[InterfaceName, Link] = {}
        self._forwarding: dict[MacAddress, dict[object, FdbEntry | BridgeEntry]] = {}
        """Entries by MAC, and for each MAC by their keys: the flood list has one for each host of the network."""

    def saw(self, items: Iterable[Item], names: Mapping[int, InterfaceName]) -> None:
        """Replace all beliefs by everything of ours in the namespace, and the names of all its devices."""
        self._names = dict(names)
        self._links = {}
        self._forwarding = {}
        self._seen = items
        self._done = []

    @property
    def sysctls(self) -> frozenset[tuple[str, str]] | None:
        """The sysctls that differ from the defaults; None before anything was seen or done."""
        self._learn()
        return self._sysctls

    def _learn(self) -> None:
        """Index what was observed and done since; done late, when it is first compared with a notification."""
        for item in self._seen:
            self._add(item)
        self._seen = ()
        done, self._done = self._done, []
        self._follow(done)

    def did(self, ops: Iterable[Op]) -> None:
        """Record operations that were executed in this namespace."""
        self._done += ops
        if len(self._done) > _UNREAD_MAX:
            self._learn()

    def _follow(self, ops: Iterable[Op]) -> None:
        gone = set()
        for op in ops:
            match op, op.item:
                case Delete() | Retire(), Link(name=name):
                    self._links.pop(name, None)
                    gone.add(name)
                case Delete(), FdbEntry() | BridgeEntry() as entry:
                    self._remove(entry)
                case Delete(), _:
                    pass
                case _, item:
                    self._add(item)
        if gone:
            self._forget(gone)

    def is_news(self, notifications: Sequence[Notification], devices: Devices) -> bool:
        """Return whether these notifications leave an object in a new state. For each object the last one counts.

        `devices` are the devices in these notifications, as `decoded` returns them.
        """
        if not notifications:
            return False
        self._learn()
        latest: dict[object, Notification] = {}
        for one in notifications:
            kind, payload = one
            bridged = values.family(payload) == socket.AF_BRIDGE
            if kind in _LINK_KINDS:
                device = devices.get(payload)
                if device and link_reading.tells_of_offloads(device):
                    return True
                if not bridged and self._name_changes(payload):
                    return True
                latest[values.link_index(payload), bridged] = one
            elif kind in {RTM_NEWNEIGH, RTM_DELNEIGH} and bridged:
                latest[neighbour_reading.forwarding_key(payload)] = one
            elif kind not in {RTM_NEWNETCONF, RTM_DELNETCONF}:
                return True
        return any(self._differs(*one, devices) for one in latest.values())

    def _add(self, item: Item) -> None:
        match item:
            case Namespace(sysctls=values):
                self._sysctls = values
            case Link(name=name):
                self._links[name] = item
            case FdbEntry() | BridgeEntry():
                self._forwarding.setdefault(item.mac, {})[item.key] = item
            case _:
                pass

    def _remove(self, entry: FdbEntry | BridgeEntry) -> None:
        known = self._forwarding.get(entry.mac, {})
        known.pop(entry.key, None)
        if not known:
            self._forwarding.pop(entry.mac, None)

    def _forget(self, devices: set[InterfaceName]) -> None:
        """Forget what the kernel removes together with devices."""
        for known in list(self._forwarding.values()):
            for entry in [entry for entry in known.values() if entry.dev in devices]:
                self._remove(entry)

    def _name_changes(self, payload: bytes) -> bool:
        """Record the name of a device; return whether a device of ours has another name now."""
        index, name = values.link_index(payload), link_reading.name(payload)
        before = self._names.get(index, name)
        self._names[index] = name
        return before != name and before in self._links

    def _differs(self, kind: int, payload: bytes, devices: Devices) -> bool:
        match kind:
            case _ if kind in {RTM_NEWNEIGH, RTM_DELNEIGH}:
                return self._entry_differs(payload, gone=kind == RTM_DELNEIGH)
            case _ if values.family(payload) == socket.AF_BRIDGE:
                return kind == RTM_NEWLINK and self._port_differs(payload)
            case _ if kind == RTM_DELLINK:
                return devices[payload].name in self._links
            case _:
                return self._link_differs(devices[payload])

    def _link_differs(self, device: link_reading.Device) -> bool:
        if not ownership.owns_link(device.name):
            return False
        (link,) = link_reading.links(self._ns, [device], self._names)
        return self._links.get(device.name) != link

    def _port_differs(self, payload: bytes) -> bool:
        known = self._links.get(self._names.get(values.link_index(payload), ownership.LOOPBACK))
        found = link_reading.port_flags(payload)
        if known is None or known.port is None or found is None:
            return False
        return found != (known.port.learning, known.port.unicast_flood, known.port.neigh_suppress)

    def _entry_differs(self, payload: bytes, *, gone: bool) -> bool:
        """Return whether a forwarding entry differs from the known one; one without our mark may have replaced ours."""
        ours = neighbour_reading.forwarding_entry(self._ns, payload, self._names)
        known = self._forwarding.get(neighbour_reading.forwarding_mac(payload), {})
        if ours and ownership.owns(ours):
            return (known.get(ours.key) == ours) == gone
        return bool(known)
