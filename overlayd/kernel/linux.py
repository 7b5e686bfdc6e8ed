"""The kernel of this machine, behind the face that `port.py` defines."""

import errno
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from overlayd.dataplane import ownership
from overlayd.dataplane.desired.new_endpoint import NewEndpoint
from overlayd.dataplane.items import (
    HOST,
    BridgeEntry,
    DeviceSysctls,
    FdbEntry,
    Item,
    Link,
    Namespace,
    NamespaceRef,
    Neighbour,
    NftTable,
    Route,
    SoftwareChecksums,
    State,
    Sysctl,
)
from overlayd.dataplane.plan import Plan
from overlayd.kernel import descriptor_limit, docker_filter, nft
from overlayd.kernel.apply import ethtool, rehearsal
from overlayd.kernel.apply.endpoints import NewEndpoints
from overlayd.kernel.apply.executor import Execution
from overlayd.kernel.apply.sockets import Sockets, reap
from overlayd.kernel.host_tables import HostTables, tables
from overlayd.kernel.netlink import requests, traffic_control
from overlayd.kernel.netlink.decoding import (
    address_reading,
    link_reading,
    neighbour_reading,
    route_reading,
    sysctl_reading,
)
from overlayd.kernel.netlink.decoding.readings import Readings
from overlayd.kernel.netlink.transport import Netlink
from overlayd.kernel.packets import announce, source_guard
from overlayd.kernel.port import KernelError, NoNamespace, Outcome, Surroundings, Underlay
from overlayd.kernel.spaces import sysctls
from overlayd.kernel.spaces.namespace_names import OfAnotherHost
from overlayd.kernel.spaces.namespaces import descriptor, identity, listed
from overlayd.model.address import IpAddress
from overlayd.model.ids import InterfaceName, MacAddress

_PAUSE = 0.02
"""Seconds between two pieces of a preparation, so that an event loop in another thread can run in between."""

_Recognised = Callable[[InterfaceName], bool]

_Entry = Neighbour | FdbEntry | BridgeEntry | Route
"""The items of tables that may be long, which are read only to find one of these items."""


class LinuxKernel:
    """The kernel, seen from the network namespace of the thread that makes this.

    The agent makes it in the thread of its event loop, and from then on uses it in one other thread, which is in the
    same namespace. Some methods may run in further threads: `reap` opens sockets of its own, `prepare` only fills the
    cache of netlink/encoder.py, which has a lock, and `sandbox_id`, `own`, `is_found` and `shortage` look
    only.
    """

    def __init__(self, tables: Path = nft.DIRECTORY) -> None:
        """Record our nft tables in files below `tables`, a directory that does not outlive the boot."""
        self._sockets = Sockets()
        self._readings: dict[NamespaceRef, Readings] = {}
        self._host = HostTables(self._sockets.host, self._sockets.monitor.host)
        self._tables = nft.Tables(tables)

    def namespaces(self) -> frozenset[NamespaceRef]:
        """Return the network namespaces on this host that are ours by name."""
        self._sockets.put_names_back()
        found = frozenset(ns for ns in listed() if self._is_ours(ns))
        self._readings = {ns: readings for ns, readings in self._readings.items() if ns in found}
        return found

    def _is_ours(self, ns: NamespaceRef) -> bool:
        """Return whether a namespace was made for its name here; one that was not loses the name."""
        try:
            self._sockets.into(ns)
        except (NoNamespace, OfAnotherHost):
            return False
        return True

    def sandbox_id(self, sandbox: str) -> tuple[int, int] | None:
        """Return device and inode of the namespace at this path, or None when the path is no network namespace."""
        return identity(NamespaceRef(sandbox))

    def own(self, sandbox_id: tuple[int, int]) -> NamespaceRef | None:
        """Return the name of the host's own namespace or of a network's namespace, None for any other namespace."""
        return self._sockets.own(sandbox_id)

    def is_found(self, ns: NamespaceRef) -> bool:
        """Return whether the name of a namespace of ours leads to it."""
        return self._sockets.is_in_place(ns)

    def is_in_place(self, ns: NamespaceRef) -> bool:
        """Do as `is_found`, after putting back a name that was lost."""
        self._sockets.put_name_back(ns)
        return self._sockets.is_in_place(ns)

    def has_device(self, ns: NamespaceRef, name: InterfaceName) -> bool:
        """Return whether a namespace of ours has a device of this name."""
        self._sockets.put_name_back(ns)
        try:
            self._sockets.into(ns).get(requests.link(name))
        except NoNamespace:
            return False
        except KernelError as error:
            if error.errno != errno.ENODEV:
                raise
            return False
        return True

    def links(self, namespaces: Iterable[NamespaceRef]) -> frozenset[Link]:
        """Return our devices in these namespaces of ours."""
        self._sockets.put_names_back()
        return frozenset(link for ns in namespaces if self._sockets.is_in_place(ns) for link in self._links(ns))

    def _links(self, ns: NamespaceRef) -> Iterator[Link]:
        devices = self._devices(ns)
        ours = [device for device in devices if ownership.owns_link(device.name)]
        return link_reading.links(ns, ours, {device.index: device.name for device in devices})

    def observe(self, namespaces: Iterable[NamespaceRef]) -> State:
        """Return the owned items of these namespaces, in canonical form."""
        places = frozenset(namespaces)
        self._sockets.put_names_back(places)
        return frozenset().union(*(self._observed(ns) for ns in places if self._sockets.is_in_place(ns)))

    def _observed(self, ns: NamespaceRef) -> State:
        inside = ownership.is_network_namespace(ns)
        if inside:
            self._sockets.into(ns)  # from then on the monitor hears of it
        self._sockets.monitor.settle(ns)
        devices = self._devices(ns) if inside else []
        few = self._read_devices(ns, devices, ownership.owns_link) if inside else self._read_host()
        found = frozenset(item for item in (*few, *self._tables.observe(ns)) if ownership.owns(item))
        if inside:
            readings = self._readings.setdefault(ns, Readings(ns))
            found = found.union(*self._read_tables(ns, devices, ownership.owns_link, readings))
        self._sockets.monitor.saw(ns, found, devices)
        return found

    def missing(self, items: State) -> State:
        """Return those of the items, in our namespaces or in sandboxes, that are not in force in exactly this form."""
        self._sockets.put_names_back()
        places = {item.ns for item in items}
        names = {
            ns: {_device(item) for item in items if item.ns == ns} for ns in places if self._sockets.is_in_place(ns)
        }
        try:
            lacking = items
            for ns, known in names.items():
                devices = self._devices(ns)
                lacking = lacking.difference(self._read_devices(ns, devices, known.__contains__))
                if any(isinstance(item, _Entry) for item in lacking if item.ns == ns):
                    lacking = lacking.difference(*self._read_tables(ns, devices, known.__contains__, Readings(ns)))
            return lacking.difference(*(_device_sysctls(item) for item in lacking if isinstance(item, DeviceSysctls)))
        finally:
            self._sockets.leave_sandbox()

    def link(self, ns: NamespaceRef, name: InterfaceName) -> Link | None:
        """Return a device of one of our namespaces or of a sandbox, ours or not; None when it does not exist."""
        if identity(ns) is None:
            return None
        self._sockets.put_name_back(ns)
        try:
            devices = self._devices(ns)
        finally:
            self._sockets.leave_sandbox()
        named = [device for device in devices if device.name == name]
        return next(link_reading.links(ns, named, {device.index: device.name for device in devices}), None)

    def _devices(self, ns: NamespaceRef) -> list[link_reading.Device]:
        if ns == HOST:
            return self._host.devices()
        return [link_reading.device(payload) for payload in self._sockets.into(ns).dump(requests.LINKS)]

    def _read_host(self) -> Iterator[Item]:
        """Yield the items of the host's own namespace that are ours or that we need."""
        netlink, devices = self._sockets.host, self._devices(HOST)
        ours = [device for device in devices if ownership.owns_host_device(device.name)]
        names = {device.index: device.name for device in ours}
        self._sockets.monitor.host.saw_uplinks(ours)
        with descriptor(HOST) as fd:
            settings = sysctls.observe_host(fd, names.values(), self._host.ways_out)
            yield from (Sysctl(HOST, name, value) for name, value in settings)
        if ours:
            yield from link_reading.links(HOST, ours, {device.index: device.name for device in devices})
            yield from address_reading.addresses(HOST, tables(netlink, requests.ADDRESSES), names)
            readings = Readings(HOST)
            yield from readings.items(neighbour_reading.neighbour, tables(netlink, requests.NEIGHBOURS), names)
            yield from readings.items(route_reading.route, tables(netlink, requests.ROUTES), names)

    def _read_devices(
        self, ns: NamespaceRef, devices: Sequence[link_reading.Device], recognised: _Recognised
    ) -> Iterator[Item]:
        """Yield the namespace, its devices, and the small tables of each."""
        netlink = self._sockets.into(ns)
        ours = [device for device in devices if recognised(device.name)]
        with descriptor(ns) as fd:
            general = sysctls.observe(fd)
            of_devices = (
                (each.name, sysctl_reading.device_sysctls(each)) for each in ours if each.name != ownership.LOOPBACK
            )
            yield Namespace(ns, general | sysctls.deviating(of_devices, general))
            tunnels = [device.name for device in ours if device.kind == "vxlan"]
            yield from (SoftwareChecksums(ns, name) for name in tunnels if not ethtool.is_offloaded(fd, name))
        yield from link_reading.links(ns, ours, {device.index: device.name for device in devices})
        names = {device.index: device.name for device in ours}
        yield from address_reading.addresses(ns, tables(netlink, requests.ADDRESSES), names)
        qdiscs = netlink.dump(requests.QDISCS)
        yield from traffic_control.limits(ns, qdiscs, names)
        for index in traffic_control.hooked(qdiscs, names):
            yield source_guard.observed(ns, names[index], _program(netlink, index))

    def _read_tables(
        self, ns: NamespaceRef, devices: Sequence[link_reading.Device], recognised: _Recognised, readings: Readings
    ) -> Iterator[State]:
        """Yield the entries of tables that may have tens of thousands, in a network of as many hosts or endpoints."""
        netlink = self._sockets.into(ns)
        names = {device.index: device.name for device in devices if recognised(device.name)}
        yield readings.items(neighbour_reading.neighbour, tables(netlink, requests.NEIGHBOURS), names)
        yield readings.items(neighbour_reading.forwarding_entry, netlink.dump(requests.FDB_ENTRIES), names)
        # In a sandbox, others may have moved ours: plugins for policy routing or a VRF do.
        routes = requests.ROUTES if ownership.is_network_namespace(ns) else requests.ROUTES_OF_ALL_TABLES
        yield readings.items(route_reading.route, tables(netlink, routes), names)

    def apply(self, plan: Plan) -> tuple[Outcome, ...]:
        """Execute the operations in order; return one outcome for each."""
        outcomes = Execution(self._sockets, self._tables).run(plan)
        self._sockets.monitor.did(outcomes)
        return outcomes

    def attach(self, endpoints: Sequence[NewEndpoint]) -> tuple[Outcome | None, ...]:
        """Make endpoints of which nothing is there; return for each the first operation that was not done, if any."""
        making = NewEndpoints(self._sockets, self._tables)
        found = making.make(endpoints)
        self._sockets.monitor.did(making.outcomes)
        return found

    def reap(self, namespaces: Iterable[NamespaceRef]) -> None:
        """Delete the devices that were taken out of use in these namespaces of ours, in one group for each."""
        for ns in namespaces:
            reap(ns)

    def leftovers(self) -> frozenset[NamespaceRef]:
        """Return those of our namespaces that hold devices which were taken out of use and not deleted."""
        return frozenset(
            ns
            for ns in self.namespaces()
            if any(device.name.startswith(ownership.RETIRED_PREFIX) for device in self._devices(ns))
        )

    def prepare(self) -> None:
        """Load and encode in advance what the first attachment needs."""
        for _ in rehearsal.rehearse():
            time.sleep(_PAUSE)

    def shortage(self) -> str | None:
        """Return in one sentence which resource is too short for new attachments; None when none is."""
        return descriptor_limit.descriptor_shortage()

    def fileno(self) -> int:
        """Return a descriptor that is readable while `changed` may have changes to return."""
        return self._sockets.monitor.fileno()

    def changed(self) -> frozenset[NamespaceRef]:
        """Return the namespaces in which others may have changed what is ours; `HOST` stands for the underlay too."""
        return self._sockets.monitor.changed()

    def revived(self) -> frozenset[tuple[NamespaceRef, InterfaceName]]:
        """Return the host's ends of veth pairs whose other ends were down and came up since the last call."""
        return self._sockets.monitor.revived()

    def announce(self, ns: NamespaceRef, dev: InterfaceName, mac: MacAddress, addresses: Iterable[IpAddress]) -> None:
        """Announce through a device that these addresses now have this MAC."""
        announce.send(ns, dev, [announce.announcement(address, mac) for address in addresses])

    def underlay(self, address: IpAddress, peers: Iterable[IpAddress]) -> Underlay:
        """Return the device of the host's own namespace that holds the address; raise `NotFound` when none does."""
        return self._host.underlay(address, peers)

    def surroundings(self) -> Surroundings:
        """Return the foreign routes, gateways, addresses and devices of the host's own namespace."""
        return self._host.surroundings()

    def admit_uplinks(self) -> bool:
        """Let uplinks pass where Docker drops what the host forwards; return whether that took a rule."""
        return docker_filter.admit_uplinks()

    def close(self) -> None:
        """Close every socket. Nothing in the kernel changes."""
        self._sockets.close()


def _device_sysctls(item: DeviceSysctls) -> Iterator[Item]:
    if identity(item.ns):
        with descriptor(item.ns) as fd:
            yield sysctls.observe_device(fd, item)


def _device(item: Item) -> InterfaceName | None:
    match item:
        case Namespace() | NftTable() | Sysctl():
            return None
        case Link(name=name):
            return name
        case _:
            return item.dev


def _program(netlink: Netlink, index: int) -> bytes:
    """Return the program at a device's ingress hook, empty when it has none of classic BPF, or is gone."""
    try:
        return traffic_control.program_code(netlink.get(traffic_control.program_request(index)))
    except KernelError as error:
        if error.errno not in {errno.ENOENT, errno.EINVAL, errno.ENODEV}:
            raise
        return b""
