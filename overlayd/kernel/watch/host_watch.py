"""Which notifications of the host's own namespace matter: most of what happens there does not concern us."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from overlayd.dataplane import ownership
from overlayd.dataplane.items import Address, Link, Sysctl
from overlayd.dataplane.plan import Delete, Op, Retire
from overlayd.kernel.netlink.decoding import address_reading, link_reading, route_reading, sysctl_reading, values
from overlayd.kernel.netlink.rtnetlink import (
    IFF_UP,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELNETCONF,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWNETCONF,
)
from overlayd.kernel.watch.beliefs import Notification
from overlayd.model.address import IpAddress
from overlayd.model.ids import InterfaceName


@dataclass(frozen=True, slots=True)
class _Facts:
    """The properties of a device that matter here."""

    name: str
    mtu: int
    up: bool
    mac: str

    @classmethod
    def of(cls, device: link_reading.Device) -> "_Facts":
        return cls(device.name, device.mtu, bool(device.flags & IFF_UP), device.mac)


class HostWatch:
    """Knows the underlay's device, and the host's ends of uplinks.

    It also knows what this agent did to these ends, by their names: the kernel notifies of such changes too, without
    saying who made them. A device is unfinished until notifications have shown the state that the agent gave it.
    """

    def __init__(self) -> None:
        self._underlay: frozenset[int] = frozenset()
        self._known: dict[int, _Facts] = {}
        self._made: dict[str, _Facts] = {}
        self._deleted: set[str] = set()
        self._sysctls: dict[str, str] = {}
        self._given: set[tuple[str, IpAddress]] = set()
        self._unfinished: set[int] = set()
        self._addresses: frozenset[IpAddress] = frozenset()
        self._ways_out: frozenset[int] = frozenset()

    def saw_addresses(self, addresses: frozenset[IpAddress]) -> None:
        """Set the host's addresses that are not ours and not link-local: no network's range may hold one."""
        self._addresses = addresses

    def saw_ways_out(self, indexes: Collection[int]) -> None:
        """Set the devices that have a default route: they must forward."""
        self._ways_out = frozenset(indexes)

    def saw_uplinks(self, devices: Iterable[link_reading.Device]) -> None:
        """Set the host's ends of uplinks as they were observed."""
        devices = list(devices)
        # Of what this agent made and no notification has shown yet, some are still to be read.
        self._unfinished |= {each.index for each in devices if each.name in self._made} - self._known.keys()
        self._known.update((device.index, _Facts.of(device)) for device in devices)

    def saw_underlay(self, devices: Collection[link_reading.Device]) -> None:
        """Set the device that holds the VTEP's address and the others by which packets leave; none if none holds it."""
        for index in self._underlay:
            self._known.pop(index, None)
        self._underlay = frozenset(device.index for device in devices)
        self._known.update((device.index, _Facts.of(device)) for device in devices)

    def did(self, ops: Iterable[Op]) -> None:
        """Record operations that were executed in the host's own namespace."""
        for op in ops:
            match op, op.item:
                case Delete() | Retire(), Link(name=name):
                    self._forget(name)
                    self._deleted.add(name)
                case _, Link(name=name) as link:
                    self._made[name] = _Facts(name, link.mtu or 0, link.up, link.mac or "")
                    self._deleted.discard(name)
                case Delete(), Address(dev=dev, address=address):
                    self._given.discard((dev, address.ip))
                case _, Address(dev=dev, address=address):
                    self._given.add((dev, address.ip))
                case Delete(), _:
                    pass
                case _, Sysctl(name=name, value=value):
                    self._sysctls[name] = value
                case _:
                    pass

    def lost(self) -> None:
        """Record that notifications were lost: none is waited for."""
        self._unfinished.clear()

    def _forget(self, name: InterfaceName) -> None:
        self._made.pop(name, None)
        self._given = {(dev, address) for dev, address in self._given if dev != name}

    def is_news(self, notifications: Iterable[Notification]) -> bool:
        """Return whether something of ours may have changed: the underlay, an uplink, or a device that frees a VNI."""
        # Every one is looked at, as each may teach what the next one is to be compared with.
        count = sum(self._matters(kind, payload) for kind, payload in notifications)
        # The kernel has reported our own operations before `did` is called: a device that is still unfinished after
        # these notifications is not as the agent made it.
        unfinished, self._unfinished = self._unfinished, set()
        return count > 0 or bool(unfinished)

    def _matters(self, kind: int, payload: bytes) -> bool:
        match kind:
            case _ if kind in {RTM_NEWLINK, RTM_DELLINK}:
                return self._link_matters(link_reading.device(payload), gone=kind == RTM_DELLINK)
            case _ if kind in {RTM_NEWADDR, RTM_DELADDR}:
                return self._address_matters(payload, gone=kind == RTM_DELADDR)
            case _ if kind in {RTM_NEWNEIGH, RTM_DELNEIGH}:
                return values.link_index(payload) in self._known
            case _ if kind == RTM_DELROUTE:
                return not self._is_deleted(route_reading.route_device(payload))
            case _ if kind in {RTM_NEWNETCONF, RTM_DELNETCONF}:
                return kind == RTM_NEWNETCONF and self._sysctls_matter(payload)
            case _:
                return True

    def _link_matters(self, device: link_reading.Device, *, gone: bool) -> bool:
        if gone:
            self._unfinished.discard(device.index)
            is_known = self._known.pop(device.index, None) is not None
            if is_known and device.name in self._deleted:
                self._deleted.discard(device.name)
                return False
            # Where another vxlan device goes a VNI may be free.
            return is_known or device.kind == "vxlan"
        if device.index not in self._known and not ownership.owns_host_device(device.name):
            return False
        if self._is_deleted(device.index):
            return False
        before = self._known.get(device.index)
        now = self._known[device.index] = _Facts.of(device)
        made = self._made.get(device.name)
        if now == made:
            self._unfinished.discard(device.index)
        elif made and (before is None or device.index in self._unfinished):
            self._unfinished.add(device.index)
        else:
            return before != now
        return False

    def _is_deleted(self, index: int) -> bool:
        """Return whether this agent deleted a device: notifications about it only report its removal."""
        known = self._known.get(index)
        return known is not None and known.name in self._deleted

    def _sysctls_matter(self, payload: bytes) -> bool:
        """Return whether sysctls changed that matter, to other values than this agent gave them."""
        index = sysctl_reading.netconf_index(payload)
        if index in self._unfinished:
            return False  # what a new device has before it is given anything
        device = self._known.get(index)
        values = sysctl_reading.netconf_sysctls(payload)
        if device and values and all(self._sysctls.get(name.format(device.name)) == values[name] for name in values):
            return False
        return index < 0 or device is not None or index in self._ways_out

    def _address_matters(self, payload: bytes, *, gone: bool) -> bool:
        device, address = address_reading.address_device(payload), address_reading.local_address(payload)
        known = self._known.get(device)
        if self._is_deleted(device):
            return False
        if known and not gone and (known.name, address) in self._given:
            return False  # over IPv6 the kernel tells of an address some time after it was given
        if not self._underlay or (known and device not in self._underlay):
            return True
        # A router's advertisements renew addresses every few seconds, and containers' devices get link-local ones.
        return not (address.is_link_local or address.is_loopback) and (address in self._addresses) == gone
