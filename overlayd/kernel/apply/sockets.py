"""Netlink sockets by network namespace: kept open for our own namespaces, short-lived for workloads' sandboxes."""

import errno
import os
import socket
from collections.abc import Iterable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass

import structlog

from overlayd.dataplane import ownership
from overlayd.dataplane.items import HOST, NamespaceRef
from overlayd.kernel.apply.removal import delete_links
from overlayd.kernel.netlink import link_messages, requests
from overlayd.kernel.netlink.decoding import link_reading
from overlayd.kernel.netlink.transport import Netlink, open_socket, port_id
from overlayd.kernel.port import KernelError, NoNamespace
from overlayd.kernel.spaces import namespace_names, namespaces
from overlayd.kernel.spaces.namespaces import descriptor
from overlayd.kernel.watch.monitor import Monitor

_log = structlog.get_logger(__name__)


def open_in(ns: NamespaceRef) -> Netlink:
    """Return a socket of a namespace; the caller closes it. Raises `KernelError`."""
    with descriptor(ns) as fd, namespaces.entered(fd):
        return Netlink(open_socket())


def free_devices(netlink: Netlink) -> None:
    """Delete at once the devices whose VNI, or name in a sandbox, another device may need."""
    devices = [link_reading.device(payload) for payload in netlink.dump(requests.LINKS)]
    names = [device.name for device in devices if device.kind in {"vxlan", "veth"}]
    for error in delete_links(netlink, names).values():
        if error.errno != errno.ENODEV:  # a veth that took its other end along
            raise error


def reap(ns: NamespaceRef) -> None:
    """Delete the veth pairs of a namespace that were taken out of use, over a socket of its own."""
    try:
        with closing(open_in(ns)) as netlink:
            netlink.execute(link_messages.group_deleted())
    except NoNamespace:
        return  # all of them are gone with it
    except KernelError as error:
        if error.errno != errno.ENODEV:  # there is none
            raise


@dataclass(frozen=True, slots=True)
class _Member:
    """A socket that keeps an owned network namespace alive, and the identity of that namespace."""

    identity: namespaces.Identity
    socket: socket.socket
    netlink: Netlink


class Sockets:
    """The sockets that one kernel works with. `host` belongs to the namespace of the thread that makes this."""

    def __init__(self) -> None:
        sock = open_socket()
        self.host = Netlink(sock)
        self.monitor = Monitor(port_id(sock))
        self._host = namespaces.identity(HOST)
        self._ours: dict[NamespaceRef, _Member] = {}
        self._sandbox: tuple[NamespaceRef, Netlink] | None = None

    def into(self, ns: NamespaceRef) -> Netlink:
        """Return a socket of a namespace, valid until one of another sandbox is requested, or `leave_sandbox`."""
        if ns == HOST:
            return self.host
        if ownership.is_network_namespace(ns):
            return self._into_ours(ns)
        if self._sandbox is None or self._sandbox[0] != ns:
            self.leave_sandbox()
            self._sandbox = (ns, open_in(ns))
        return self._sandbox[1]

    def _into_ours(self, ns: NamespaceRef) -> Netlink:
        if kept := self._ours.get(ns):
            return kept.netlink
        with descriptor(HOST) as host, descriptor(ns) as fd, namespaces.entered(fd), ExitStack() as failure:
            found = namespaces.identity_of(fd, ns)
            sock = open_socket()
            failure.callback(sock.close)
            netlink = Netlink(sock)
            is_ours = found != self._host and namespace_names.is_ours(ns, netlink, host)
            if is_ours:
                self.monitor.enter(ns, port_id(sock))
                failure.pop_all()
        if not is_ours:
            namespaces.delete(ns)
            _log.warning("took a network's name from a namespace that was not made for it", name=ns)
            raise NoNamespace(f"{ns}: led to a namespace that was not made for it, and is free now")
        self._ours[ns] = _Member(found, sock, netlink)
        return netlink

    def make(self, ns: NamespaceRef) -> None:
        """Create a namespace of ours; one that has lost its name gets that back instead.

        Raises `KernelError`, with EEXIST when it is there under its name.
        """
        if (kept := self._ours.get(ns)) and not self.is_in_place(ns):
            self._put_back(ns, kept)
            return
        namespaces.create(ns)
        with closing(open_in(ns)) as netlink:
            namespace_names.mark(ns, netlink)

    def found_again(self, ns: NamespaceRef) -> bool:
        """Give a name back to the namespace that had it and that other processes keep alive; return whether it exists.

        Another namespace that has got the name since then loses it. Raises `KernelError`.
        """
        fd = namespace_names.nameless(ns, namespaces.identity(ns))
        if fd is None:
            return False
        try:
            self.forget(ns)
            namespace_names.put_back(ns, fd)
        finally:
            os.close(fd)
        return True

    def own(self, identity: namespaces.Identity) -> NamespaceRef | None:
        """Return the name of the host's namespace or of an owned one, None for any other. Any thread may call it."""
        if identity == self._host:
            return HOST
        return next((ns for ns, member in list(self._ours.items()) if member.identity == identity), None)

    def is_in_place(self, ns: NamespaceRef) -> bool:
        """Return whether the name of a namespace of ours leads to it. For any thread."""
        found, kept = namespaces.identity(ns), self._ours.get(ns)
        return found is not None and (kept is None or found == kept.identity)

    def leave_sandbox(self) -> None:
        """Close the socket of the sandbox: a namespace lives as long as a socket in it."""
        if self._sandbox:
            self._sandbox[1].close()
            self._sandbox = None

    def put_names_back(self, namespaces: Iterable[NamespaceRef] | None = None) -> None:
        """Do as `put_name_back` with all names, or with those of some namespaces."""
        for ns in self._ours if namespaces is None else namespaces:
            self.put_name_back(ns)

    def put_name_back(self, ns: NamespaceRef) -> None:
        """Put a name back that others deleted, unmounted or gave to something else.

        Our socket keeps a namespace without a name alive, with all that is in it, so traffic goes on. A name that
        cannot be put back stays as it is, and operations that need the name fail with the
        reason. Raises `KernelError` when the kernel does not say what the name means now.
        """
        kept = self._ours.get(ns)
        if kept and not self.is_in_place(ns):
            with suppress(KernelError):
                self._put_back(ns, kept)
                _log.info("repaired external change", namespaces=[ns], what="where the name leads")

    @staticmethod
    def _put_back(ns: NamespaceRef, member: _Member) -> None:
        fd = namespace_names.namespace_of(member.socket)
        try:
            namespace_names.put_back(ns, fd)
        finally:
            os.close(fd)

    def forget(self, ns: NamespaceRef) -> None:
        """Close the socket of one of our namespaces."""
        if kept := self._ours.pop(ns, None):
            self.monitor.leave(ns)
            kept.netlink.close()

    def close(self) -> None:
        """Close every socket."""
        self.leave_sandbox()
        for ns in list(self._ours):
            self.forget(ns)
        self.monitor.close()
        self.host.close()
