"""Which notifications of the host's own namespace matter: most of what happens there does not concern us."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from overlayd.dataplane import ownership
from overlayd.kernel.netlink import decode
from overlayd.kernel.netlink.rtnetlink import (
    IFF_UP,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_DELNETCONF,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWNETCONF,
)
from overlayd.kernel.watch.beliefs import Notification
from overlayd.model.address import IpAddress


@dataclass(frozen=True, slots=True)
class _Facts:
    """What matters of a device."""

    name: str
    mtu: int
    up: bool
    mac: str

    @classmethod
    def of(cls, device: decode.Device) -> "_Facts":
        return cls(device.name, device.mtu, bool(device.flags & IFF_UP), device.mac)


class HostWatch:
    """Knows the underlay's device, and the host's ends of uplinks."""

    def __init__(self) -> None:
        self._underlay: frozenset[int] = frozenset()
        self._known: dict[int, _Facts] = {}
        self._addresses: frozenset[IpAddress] = frozenset()
        self._ways_out: frozenset[int] = frozenset()

    def saw_addresses(self, addresses: frozenset[IpAddress]) -> None:
        """Set the host's addresses that are not ours and not link-local: no network's range may hold one."""
        self._addresses = addresses

    def saw_ways_out(self, indexes: Collection[int]) -> None:
        """Set the devices that have a default route: they must forward."""
        self._ways_out = frozenset(indexes)

    def saw_uplinks(self, devices: Iterable[decode.Device]) -> None:
        """Set the host's ends of uplinks as they were observed."""
        self._known.update((device.index, _Facts.of(device)) for device in devices)

    def saw_underlay(self, devices: Collection[decode.Device]) -> None:
        """Set the device that holds the VTEP's address and the others by which packets leave; none if none holds it."""
        for index in self._underlay:
            self._known.pop(index, None)
        self._underlay = frozenset(device.index for device in devices)
        self._known.update((device.index, _Facts.of(device)) for device in devices)

    def is_news(self, notifications: Iterable[Notification]) -> bool:
        """Tell whether something of ours may have changed: the underlay, an uplink, or what frees a VNI."""
        # Every one is looked at, as each may teach what the next one is to be compared with.
        return sum(self._matters(kind, payload) for kind, payload in notifications) > 0

    def _matters(self, kind: int, payload: bytes) -> bool:
        match kind:
            case _ if kind in {RTM_NEWLINK, RTM_DELLINK}:
                return self._link_matters(decode.device(payload), gone=kind == RTM_DELLINK)
            case _ if kind in {RTM_NEWADDR, RTM_DELADDR}:
                return self._address_matters(payload, gone=kind == RTM_DELADDR)
            case _ if kind in {RTM_NEWNEIGH, RTM_DELNEIGH}:
                return decode.link_index(payload) in self._known
            case _ if kind in {RTM_NEWNETCONF, RTM_DELNETCONF}:
                index = decode.netconf_index(payload)
                return kind == RTM_NEWNETCONF and (index < 0 or index in self._known or index in self._ways_out)
            case _:
                return True

    def _link_matters(self, device: decode.Device, *, gone: bool) -> bool:
        if gone:
            # Where another vxlan device goes a VNI may be free.
            return self._known.pop(device.index, None) is not None or device.kind == "vxlan"
        if device.index not in self._known and not ownership.owns_host_device(device.name):
            return False
        before = self._known.get(device.index)
        self._known[device.index] = _Facts.of(device)
        return before != self._known[device.index]

    def _address_matters(self, payload: bytes, *, gone: bool) -> bool:
        device = decode.address_device(payload)
        if not self._underlay or (device in self._known and device not in self._underlay):
            return True
        address = decode.local_address(payload)
        # A router's advertisements renew addresses every few seconds, and containers' devices get link-local ones.
        return not (address.is_link_local or address.is_loopback) and (address in self._addresses) == gone
