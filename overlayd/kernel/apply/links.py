"""Executing operations on links."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import assert_never

from overlayd.dataplane.items import (
    HOST,
    Bridge,
    BridgePort,
    Item,
    Link,
    Loopback,
    NamespaceRef,
    Other,
    Veth,
    VethPeer,
    Vxlan,
)
from overlayd.kernel.apply.indexes import Indexes
from overlayd.kernel.apply.removal import delete_links
from overlayd.kernel.apply.sockets import Sockets
from overlayd.kernel.netlink import link_messages, requests
from overlayd.kernel.netlink.decoding import link_reading
from overlayd.kernel.netlink.transport import Netlink, open_brief_socket
from overlayd.kernel.port import KernelError, NoNamespace
from overlayd.kernel.spaces.namespaces import descriptor, open_namespace, touring
from overlayd.model.ids import InterfaceName

SANDBOXES_AT_ONCE = 16
"""Sandboxes that are open at the same time while devices in them are taken out of use: one descriptor each."""

_FarEnd = tuple[int, NamespaceRef, int]
"""The position of an operation, a sandbox, and the index of a device in it."""


class Links:
    """The links of every namespace. Its methods raise the kernel's errors."""

    def __init__(self, sockets: Sockets, indexes: Indexes) -> None:
        self._sockets = sockets
        self._indexes = indexes

    def add(self, link: Link) -> None:
        """Create a link, or set up the one that came with its namespace or with the other end of its pair."""
        netlink = self._sockets.into(link.ns)
        if comes_along(link):
            if link.ns == HOST:
                _keep_bare(netlink, link.name)
            netlink.execute(link_messages.changed(link.name, mtu=link.mtu, up=link.up))
            return
        with self._explaining(link):
            self._make(netlink, link)

    def _make(self, netlink: Netlink, link: Link) -> None:
        settings = self._settings(link)
        self._create(netlink, link, up=link.up and not settings)
        _execute(netlink, settings)

    def change(self, link: Link, before: Item) -> None:
        """Set what differs from `before`; if nothing does, set the MTU and the state again."""
        if not isinstance(before, Link):
            raise KernelError(errno.EINVAL, f"{link.name} was no link before")
        repeated = link == before
        mac = link.mac if link.mac != before.mac else None
        mtu = link.mtu if link.mtu != before.mtu or repeated else None
        alias = link.alias if link.alias != before.alias else None
        is_same = mac is None and mtu is None and alias is None
        messages = [] if is_same else [link_messages.changed(link.name, mac=mac, mtu=mtu, alias=alias)]
        if link.port != before.port:
            messages += (
                _join(link, link.port, self._indexes[link.ns])
                if link.port
                else [link_messages.changed(link.name, master=0)]
            )
        if link.up != before.up or repeated:
            messages.append(link_messages.changed(link.name, up=link.up))
        with self._explaining(link):
            _execute(self._sockets.into(link.ns), messages)

    def delete(self, ns: NamespaceRef, links: Sequence[Link]) -> Mapping[int, KernelError]:
        """Delete links of one namespace together; return the errors by position."""
        netlink = self._sockets.into(ns)
        for link in links:
            self._indexes[ns].pop(link.name, None)
        return delete_links(netlink, [link.name for link in links])

    def retire(self, ns: NamespaceRef, links: Sequence[Link]) -> Mapping[int, KernelError]:
        """Take veth pairs out of use, of which the host's ends are in one namespace; return the errors by position."""
        netlink = self._sockets.into(ns)
        errors: dict[int, KernelError] = {}
        devices: list[tuple[int, link_reading.Device]] = []
        for position, link in enumerate(links):
            self._indexes[ns].pop(link.name, None)
            try:
                devices.append((position, link_reading.device(netlink.get(requests.link(link.name)))))
            except KernelError as error:
                errors[position] = error
        messages = [message for _, device in devices for message in link_messages.retired(device.index)]
        for number, refusal in netlink.batch(messages).items():
            errors.setdefault(devices[number // link_messages.RETIREMENT_STEPS][0], refusal)
        ends = [
            (position, link.kind.peer.ns, device.far_index)
            for position, device in devices
            if position not in errors and isinstance((link := links[position]).kind, Veth) and link.kind.peer
        ]
        for start in range(0, len(ends), SANDBOXES_AT_ONCE):
            errors |= _far_ends_retired(ends[start : start + SANDBOXES_AT_ONCE])
        return errors

    def _settings(self, link: Link) -> list[bytes]:
        """Return the messages for settings that cannot be part of the link's creation."""
        if isinstance(link.kind, Bridge):
            # A bridge follows the MTU of its ports until it is changed (net/bridge/br_if.c: br_mtu_auto_adjust).
            return [link_messages.changed(link.name, mtu=link.mtu), link_messages.changed(link.name, up=link.up)]
        return port_settings(link, self._indexes[link.ns])

    def _create(self, netlink: Netlink, link: Link, *, up: bool) -> None:
        match link.kind:
            case Vxlan() as kind:
                with descriptor(link.ns) as fd:
                    # The UDP socket stays in the namespace from which the device is created: here the host's.
                    self._sockets.host.execute(link_messages.created_vxlan(link, kind, fd, up=up))
            case Veth(peer=VethPeer() as peer):
                with descriptor(peer.ns) as fd:
                    self._create_pair(netlink, link, peer, up=up, fd=fd)
            case Bridge():
                netlink.execute(link_messages.created_bridge(link, up=up))
            case Loopback() | Veth() | Other():
                raise KernelError(errno.EOPNOTSUPP, f"{link.name}: no link of this kind is made by itself")
            case _:
                assert_never(link.kind)

    @contextmanager
    def _explaining(self, link: Link) -> Iterator[None]:
        """Add to an error what prevents a VXLAN device: another one with its VNI, or a program at its port."""
        try:
            yield
        except KernelError as error:
            if not isinstance(link.kind, Vxlan):
                raise
            vni, port = link.kind.vni, link.kind.port
            if error.errno == errno.EEXIST and self._is_there(link):
                raise
            if error.errno == errno.EEXIST:
                # Only when it is nowhere near is it looked for in all namespaces of the machine.
                holder = self._holder(link.kind)
                if holder is None and self._sockets.found_again(link.ns):
                    self._indexes.pop(link.ns, None)
                    detail = f"VNI {vni} is in the namespace that had the name {link.ns} before; it has it again"
                else:
                    holder = holder or "one in another namespace"
                    detail = f"VNI {vni} on UDP port {port} is taken by a VXLAN device that is not ours: {holder}"
            elif error.errno == errno.EADDRINUSE:
                detail = f"UDP port {port} is taken by another program on this host (ss -ulnp shows which)"
            else:
                raise
            raise KernelError(error.errno, detail) from error

    def _is_there(self, link: Link) -> bool:
        devices = self._sockets.into(link.ns).dump(requests.LINKS)
        return any(link_reading.device(payload).name == link.name for payload in devices)

    def _holder(self, wanted: Vxlan) -> str | None:
        """Return the name of the device in the host's namespace that has a VNI on a port."""
        for payload in self._sockets.host.dump(requests.LINKS):
            device = link_reading.device(payload)
            if link_reading.vxlan_place(device) == (wanted.vni, wanted.port):
                return device.name
        return None

    def _create_pair(self, netlink: Netlink, link: Link, peer: VethPeer, *, up: bool, fd: int) -> None:
        near, far = link_messages.chosen_indexes(link.name)
        try:
            netlink.execute(link_messages.created_pair(link, peer, fd, up=up, indexes=(near, far)))
        except KernelError as error:
            if error.errno not in {errno.EEXIST, errno.EBUSY}:
                raise
            # It may be the index that is taken and not the name: the kernel chooses another one.
            netlink.execute(link_messages.created_pair(link, peer, fd, up=up))
        else:
            self._indexes[link.ns][link.name] = near
            self._indexes[peer.ns][peer.name] = far


def _far_ends_retired(ends: Sequence[_FarEnd]) -> dict[int, KernelError]:
    """Take other ends of veth pairs out of use; return why one cannot be. One that is gone is no failure.

    All sandboxes are opened first: a path can mean another namespace for a thread that is away.
    """
    errors: dict[int, KernelError] = {}
    with ExitStack() as opened:
        entrances = list[tuple[int, int, int]]()
        for position, sandbox, index in ends:
            try:
                fd = open_namespace(sandbox)
            except NoNamespace:
                continue  # the workload is gone
            except KernelError as error:
                errors[position] = error
                continue
            opened.callback(os.close, fd)
            entrances.append((position, fd, index))
        try:
            with touring() as enter:
                for position, fd, index in entrances:
                    try:
                        enter(fd)
                        with closing(Netlink(open_brief_socket())) as sandbox_netlink:
                            _execute(sandbox_netlink, link_messages.retired(index))
                    except KernelError as error:
                        if error.errno != errno.ENODEV:  # the workload is gone, and its device with it
                            errors[position] = error
        except KernelError as error:
            for position, _, _ in entrances:
                errors.setdefault(position, error)
    return errors


def _keep_bare(netlink: Netlink, name: InterfaceName) -> None:
    """Keep the kernel from giving a device of the host's own namespace an address as soon as it is up."""
    try:
        netlink.execute(link_messages.without_addresses(name))
    except KernelError as error:
        if error.errno != errno.EAFNOSUPPORT:  # no IPv6 on this device: it gets no address anyway
            raise


def comes_along(link: Link) -> bool:
    """Return whether a link is created together with its namespace or with the other end of its pair."""
    match link.kind:
        case Loopback() | Veth(peer=None):
            return True
        case _:
            return False


def port_settings(link: Link, indexes: Mapping[InterfaceName, int]) -> list[bytes]:
    """Return the messages that follow the creation of a port of a bridge; raise ENODEV when there is no such bridge.

    It is set up last: until its flags are set, a port would flood and learn.
    """
    if link.port is None:
        return []
    return [*_join(link, link.port, indexes), link_messages.changed(link.name, up=link.up)]


def _join(link: Link, port: BridgePort, indexes: Mapping[InterfaceName, int]) -> list[bytes]:
    master = indexes[port.master]
    return [link_messages.changed(link.name, master=master), link_messages.port_changed(link.name, port)]


def _execute(netlink: Netlink, messages: Sequence[bytes]) -> None:
    for error in netlink.batch(messages).values():
        raise error
