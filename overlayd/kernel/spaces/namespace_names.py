"""The names of our network namespaces: to which namespace a name must lead, and restoring a lost name.

A namespace is mounted on a file of its name. Others can unmount it, remove or replace the file, or mount another
namespace there; the namespace itself lives on as long as a socket, a process or another mount holds it.
"""

import errno
import fcntl
import os
import re
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from overlayd.dataplane import ownership
from overlayd.dataplane.items import HOST, NETWORK_NAMESPACES, NamespaceRef
from overlayd.kernel.netlink import link_messages, requests
from overlayd.kernel.netlink.decoding import link_reading
from overlayd.kernel.netlink.transport import Netlink, open_socket
from overlayd.kernel.port import KernelError, translated
from overlayd.kernel.spaces import namespaces

_SIOCGSKNS = 0x894C
"""linux/sockios.h: return a descriptor of the network namespace of a socket."""

_MS_BIND = 0x1000

_MARK = "overlayd "
"""What the mark of a namespace begins with; the network's name follows."""

_HOST_END = re.compile(rf"{ownership.VETH_PREFIX}[0-9a-f]{{12}}")
"""The names that `host_end` makes."""

_MOUNTS = Path("/proc/thread-self/mountinfo")


class MountWatch:
    """Notices when anything is mounted or unmounted in the mount namespace of this process (proc(5), mountinfo)."""

    def __init__(self) -> None:
        # The kernel reports a change once to each open file, so waiting and asking need one each.
        self._waiting, self._asking = _MOUNTS.open("rb"), _MOUNTS.open("rb")
        self._poll = select.poll()
        self._poll.register(self._asking, select.POLLPRI)

    def fileno(self) -> int:
        """Return a descriptor that has an exceptional condition (EPOLLPRI) after a change."""
        return self._waiting.fileno()

    def is_news(self) -> bool:
        """Return whether mounts have changed since the last call."""
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """Stop listening."""
        self._waiting.close()
        self._asking.close()


def namespace_of(member: socket.socket) -> int:
    """Return a descriptor of the namespace of a socket; the caller closes it. Raises `KernelError`."""
    with translated("the namespace of a socket"):
        return fcntl.ioctl(member, _SIOCGSKNS)


def put_back(ns: NamespaceRef, fd: int) -> None:
    """Make the name lead to the namespace of a descriptor; replace any file there. Raises `KernelError`."""
    namespaces.delete(ns)
    with translated(ns):
        Path(ns).touch(mode=0o444)
    namespaces.mount(f"/proc/self/fd/{fd}", ns, "none", _MS_BIND)


class OfAnotherHost(KernelError):
    """A network's namespace has the tunnel of another host, which sees the same names on this machine."""

    def __init__(self, ns: NamespaceRef) -> None:
        where = Path(ns).parent
        super().__init__(errno.EBUSY, f"{ns} is another host's, on the same machine: each needs a {where} of its own")


def is_ours(ns: NamespaceRef, netlink: Netlink, host: int) -> bool:
    """Return whether a namespace was made for the name, by the mark that it has.

    Older releases made no mark, and other programs may have overwritten it. Containers may depend on such a namespace,
    so a device that only an agent makes counts as a mark too, and the namespace is then marked. `host` is a descriptor
    of the host's namespace. Raises `OfAnotherHost` and any other `KernelError`.
    """
    devices = [link_reading.device(payload) for payload in netlink.dump(requests.LINKS)]
    found = "".join(link_reading.alias(device) for device in devices if device.name == ownership.LOOPBACK)
    is_marked = found.startswith(_MARK)
    if found != _mark(ns) and (is_marked or not any(_is_of_an_agent(device) for device in devices)):
        return False
    number = _number_of(host, netlink)
    if any(link_reading.is_bound_elsewhere(device, number) for device in devices if device.name == ownership.VXLAN):
        raise OfAnotherHost(ns)
    if not is_marked:
        mark(ns, netlink)
    return True


def _number_of(host: int, netlink: Netlink) -> int:
    return link_reading.namespace_number(netlink.get(requests.namespace_number(host)))


def _is_of_an_agent(device: link_reading.Device) -> bool:
    """Return whether a device is a network's tunnel, or the host's end of a container's interface."""
    is_tunnel = device.kind == "vxlan" and device.name == ownership.VXLAN
    return is_tunnel or (device.kind == "veth" and _HOST_END.fullmatch(device.name) is not None)


def mark(ns: NamespaceRef, netlink: Netlink) -> None:
    """Mark a namespace with its name, in the alias of its loopback device. Raises `KernelError`."""
    netlink.execute(link_messages.changed(ownership.LOOPBACK, alias=_mark(ns)))


def nameless(ns: NamespaceRef, other: namespaces.Identity | None) -> int | None:
    """Return a descriptor of a namespace that was made for a name, is not the `other` one, and has this host's tunnel.

    A tunnel is this host's if its socket is in this namespace: a machine may simulate several hosts. What is looked for
    may be mounted elsewhere, or a process is in it or holds it open, as far as this process may look at others. The
    caller closes the descriptor. None when there is none. Raises `KernelError`.
    """
    seen = {other}
    with namespaces.descriptor(HOST) as host:
        for path in _places():
            try:
                fd = namespaces.open_namespace(NamespaceRef(path))
            except KernelError:
                continue  # it went while we looked, or is of another kind
            with ExitStack() as failure:
                failure.callback(os.close, fd)
                identity = namespaces.identity_of(fd, NamespaceRef(path))
                if identity not in seen and _has_tunnel_of(ns, fd, host):
                    failure.pop_all()
                    return fd
            seen.add(identity)
    return None


def _has_tunnel_of(ns: NamespaceRef, fd: int, host: int) -> bool:
    with namespaces.entered(fd), closing(Netlink(open_socket())) as netlink:
        try:
            loopback, tunnel = (
                link_reading.device(netlink.get(requests.link(name))) for name in (ownership.LOOPBACK, ownership.VXLAN)
            )
            number = _number_of(host, netlink)
        except KernelError:
            return False  # without one of them it is foreign
    return link_reading.alias(loopback) == _mark(ns) and link_reading.is_bound_to(tunnel, number)


def _places() -> Iterator[str]:
    """Yield where namespaces are held: by the processes of this machine, and mounted on files that they see."""
    seen = set[int]()
    for process in filter(lambda path: path.name.isdecimal(), Path("/proc").iterdir()):
        with suppress(OSError):  # it has ended, or is more privileged than this one
            yield f"{process}/ns/net"
            if (mounts := (process / "ns/mnt").stat().st_ino) not in seen:
                seen.add(mounts)
                yield from (f"{process}/root{path}" for path in _mounted((process / "mountinfo").read_text()))
            for held in (process / "fd").iterdir():
                if held.readlink().name.startswith("net:["):
                    yield str(held)


def _mounted(mountinfo: str) -> Iterator[str]:
    """Yield where namespaces are mounted, as proc(5) says it: field 5, after an optional part the type of the mount."""
    for line in mountinfo.splitlines():
        place, _, kind = line.partition(" - ")
        if kind.startswith("nsfs "):
            yield re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place.split(" ")[4])


def _mark(ns: NamespaceRef) -> str:
    return f"{_MARK}{ns.removeprefix(NETWORK_NAMESPACES)}"
