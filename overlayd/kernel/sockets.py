"""Netlink sockets by network namespace: kept open for our own namespaces, short-lived for workloads' sandboxes."""

import errno
import os
from contextlib import ExitStack, closing

from overlayd.dataplane import ownership
from overlayd.dataplane.items import HOST, NamespaceRef
from overlayd.kernel import decode, encode_link, namespaces
from overlayd.kernel.monitor import Monitor
from overlayd.kernel.namespaces import descriptor
from overlayd.kernel.netlink import Netlink, open_socket, port_id
from overlayd.kernel.port import KernelError, NoNamespace
from overlayd.kernel.removal import delete_links


def open_in(ns: NamespaceRef) -> Netlink:
    """Return a socket of a namespace; the caller closes it. Raises `KernelError`."""
    with descriptor(ns) as fd, namespaces.entered(fd):
        return Netlink(open_socket())


def free_devices(netlink: Netlink) -> None:
    """Delete at once the devices that others would miss: the VNIs, and the names in sandboxes, are free then."""
    devices = [decode.device(payload) for payload in netlink.dump(encode_link.LINKS)]
    names = [device.name for device in devices if device.kind in {"vxlan", "veth"}]
    for error in delete_links(netlink, names).values():
        if error.errno != errno.ENODEV:  # a veth that took its other end along
            raise error


def reap(ns: NamespaceRef) -> None:
    """Delete the veth pairs of a namespace that were taken out of use, over a socket for this moment."""
    try:
        with closing(open_in(ns)) as netlink:
            netlink.execute(encode_link.group_deleted())
    except NoNamespace:
        return  # all of them are gone with it
    except KernelError as error:
        if error.errno != errno.ENODEV:  # there is none
            raise


class Sockets:
    """The sockets that one kernel works with. `host` belongs to the namespace of the thread that makes this."""

    def __init__(self) -> None:
        sock = open_socket()
        self.host = Netlink(sock)
        self.monitor = Monitor(port_id(sock))
        self._ours: dict[NamespaceRef, tuple[namespaces.Identity, Netlink]] = {}
        self._sandbox: tuple[NamespaceRef, Netlink] | None = None

    def into(self, ns: NamespaceRef) -> Netlink:
        """Return a socket of a namespace, good until that of another sandbox is asked for, or `leave_sandbox`."""
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
            return kept[1]
        with descriptor(ns) as fd, namespaces.entered(fd), ExitStack() as failure:
            status = os.fstat(fd)
            sock = open_socket()
            failure.callback(sock.close)
            netlink = Netlink(sock)
            self.monitor.enter(ns, port_id(sock))
            failure.pop_all()
        self._ours[ns] = ((status.st_dev, status.st_ino), netlink)
        return netlink

    def leave_sandbox(self) -> None:
        """Close the socket of the sandbox: a namespace lives as long as a socket in it."""
        if self._sandbox:
            self._sandbox[1].close()
            self._sandbox = None

    def discard_stale(self) -> None:
        """Let go of namespaces that somebody has deleted or replaced under the same name.

        Our socket keeps such a namespace alive, and with it the VNI of its VXLAN device and the far ends of its veths.
        Raises `KernelError` when the kernel does not say what a name means now, and then leaves that namespace alone.
        """
        for ns, (identity, netlink) in list(self._ours.items()):
            if namespaces.identity(ns) != identity:
                free_devices(netlink)
                self.forget(ns)

    def forget(self, ns: NamespaceRef) -> None:
        """Close the socket of one of our namespaces."""
        if kept := self._ours.pop(ns, None):
            self.monitor.leave(ns)
            kept[1].close()

    def close(self) -> None:
        """Close every socket."""
        self.leave_sandbox()
        for ns in list(self._ours):
            self.forget(ns)
        self.monitor.close()
        self.host.close()
