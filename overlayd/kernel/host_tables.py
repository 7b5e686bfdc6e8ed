"""The tables of the host's own namespace: its devices, addresses and routes, ours and foreign."""

import errno
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from overlayd.dataplane import ownership
from overlayd.kernel.netlink import requests
from overlayd.kernel.netlink.decoding import address_reading, link_reading, route_reading
from overlayd.kernel.netlink.decoding.readings import Decoded
from overlayd.kernel.netlink.transport import Netlink
from overlayd.kernel.port import KernelError, Surroundings, Underlay
from overlayd.kernel.watch.host_watch import HostWatch
from overlayd.model.address import IpAddress, IpNetwork
from overlayd.model.errors import NotFound
from overlayd.model.ids import InterfaceName

_ETHERNET_MTU = 1500
"""Bytes: what is taken for the underlay's MTU while no way leads anywhere."""

_WITHOUT_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES})
"""What the kernel answers when no route leads to an address, or an unreachable, blackhole or prohibit route does."""


class _Address(NamedTuple):
    device: int
    address: IpAddress


class _ForeignRoute(NamedTuple):
    """A route that does not bear our mark: where it leads, and by which devices and gateways."""

    device: int
    destination: IpNetwork | None
    next_hops: tuple[IpAddress, ...]
    default_devices: tuple[int, ...]


class HostTables:
    """Reads the tables. They are read for every change of the cluster, so that only what is new in them is decoded.

    `ways_out` are the devices of default routes, as of the last look at the surroundings.
    """

    def __init__(self, netlink: Netlink, watch: HostWatch) -> None:
        self.ways_out = frozenset[InterfaceName]()
        self._netlink = netlink
        self._watch = watch
        self._devices = Decoded(link_reading.device)
        self._addresses = Decoded(_address)
        self._routes = Decoded(_foreign_route)

    def devices(self) -> list[link_reading.Device]:
        """Return all devices; raise `KernelError`."""
        return self._devices.of(self._netlink.dump(requests.LINKS))

    def underlay(self, address: IpAddress, peers: Iterable[IpAddress]) -> Underlay:
        """Return the device that holds the address; raise `NotFound` when none does, or `KernelError`.

        Where that is a loopback, the MTU is that of the ways to the peers, or of the default routes.
        """
        netlink = self._netlink
        for index, held in self._addresses.of(tables(netlink, requests.ADDRESSES)):
            if held == address:
                device = link_reading.device(netlink.get(requests.link_by_index(index)))
                if ownership.owns_host_device(device.name):
                    continue  # an address of a network, which may be the same
                ways = () if device.carries_packets else tuple(self._ways(address, peers))
                self._watch.saw_underlay([device, *(way for way, _ in ways)])
                mtus = [device.mtu] if device.carries_packets else [mtu for _, mtu in ways]
                return Underlay(device.name, min(mtus, default=_ETHERNET_MTU))
        self._watch.saw_underlay([])
        raise NotFound(f"no device of this host has the address {address}")

    def _ways(self, address: IpAddress, peers: Iterable[IpAddress]) -> Iterator[tuple[link_reading.Device, int]]:
        """Yield the devices by which packets go to peers, or else anywhere, and how large those may be, in bytes."""
        found = dict[int, int | None]()
        for peer in {peer for peer in peers if peer.version == address.version and peer != address}:
            try:
                route = self._netlink.get(requests.route(peer))
            except KernelError as error:
                if error.errno not in _WITHOUT_WAY:
                    raise
            else:
                mtu = route_reading.route_mtu(route)
                for index in route_reading.route_devices(route):
                    found[index] = min(filter(None, (mtu, found.get(index))), default=None)
        devices = {device.index: device for device in self.devices()}
        anywhere = [index for index, device in devices.items() if device.name in self.ways_out]
        for index in found or anywhere:
            if (device := devices.get(index)) and device.carries_packets:
                yield device, min(device.mtu, found.get(index) or device.mtu)

    def surroundings(self) -> Surroundings:
        """Return the foreign routes, gateways, addresses and devices; raise `KernelError`."""
        devices = self.devices()
        ours = {device.index for device in devices if ownership.owns_host_device(device.name)}
        held = self._addresses.of(tables(self._netlink, requests.ADDRESSES))
        addresses = frozenset(each.address for each in held if each.device not in ours and _is_counted(each.address))
        self._watch.saw_addresses(addresses)
        routes, next_hops, ways_out = set[IpNetwork](), set[IpAddress](), set[int]()
        for route in self._routes.of(tables(self._netlink, requests.ALL_ROUTES)):
            if route and route.device not in ours:
                next_hops.update(route.next_hops)
                ways_out.update(route.default_devices)
                if route.destination:
                    routes.add(route.destination)
        self._watch.saw_ways_out(ways_out)
        self.ways_out = frozenset(device.name for device in devices if device.index in ways_out)
        return Surroundings(frozenset(routes), frozenset(next_hops), addresses, self.ways_out)


def _is_counted(address: IpAddress) -> bool:
    """Return whether an address matters to networks: no network has a link-local or a loopback one."""
    return not (address.is_link_local or address.is_loopback)


def _address(payload: bytes) -> _Address:
    return _Address(address_reading.address_device(payload), address_reading.local_address(payload))


def _foreign_route(payload: bytes) -> _ForeignRoute | None:
    """Return a route that is not ours; the kernel itself makes a route to each IPv6 address of a device of ours."""
    if not route_reading.is_foreign_route(payload):
        return None
    return _ForeignRoute(
        route_reading.route_device(payload),
        route_reading.destination(payload),
        tuple(route_reading.next_hops(payload)),
        tuple(route_reading.default_devices(payload)),
    )


def tables(netlink: Netlink, requests: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the entries of the tables of both families; raise `KernelError`."""
    for request in requests:
        try:
            yield from netlink.dump(request)
        except KernelError as error:
            # The kernel makes the main table of a namespace with its first route; without IPv6 there is nothing of it.
            if error.errno not in {errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT}:
                raise
