"""The sockets through which probes come and go."""

import errno
import socket

from overlayd.dataplane.items import NamespaceRef
from overlayd.dataplane.probe import ETHERTYPE
from overlayd.kernel import namespaces
from overlayd.kernel.port import KernelError
from overlayd.model.address import Family, IpAddress

_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER = 10, 23
_PMTUDISC_PROBE = 3
"""linux/in.h: never fragment, and send whatever the device can, also if a router once said that it is too much."""


def receiving(ns: NamespaceRef) -> socket.socket:
    """Return a socket that hears the probes that come into a namespace; the caller closes it. Raises `KernelError`."""
    try:
        with namespaces.descriptor(ns) as fd, namespaces.entered(fd):
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(ETHERTYPE))
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, f"packet socket in {ns}: {error.strerror}") from error
    sock.setblocking(False)  # noqa: FBT003 - the library's own
    return sock


def sending(address: IpAddress) -> socket.socket:
    """Return a socket that sends from a VTEP's address and never fragments. Raises `KernelError`."""
    is_ipv4 = Family.of(address) is Family.V4
    sock = socket.socket(socket.AF_INET if is_ipv4 else socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        if is_ipv4:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        sock.setblocking(False)  # noqa: FBT003 - the library's own
        sock.bind((str(address), 0))
    except OSError as error:
        sock.close()
        raise KernelError(error.errno or errno.EIO, f"probes from {address}: {error.strerror}") from error
    return sock
