"""The sockets for sending and receiving probes."""

import socket
from contextlib import ExitStack

from overlayd.dataplane.items import NamespaceRef
from overlayd.dataplane.probe import ETHERTYPE
from overlayd.kernel.port import translated
from overlayd.kernel.spaces import namespaces
from overlayd.model.address import Family, IpAddress

_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER = 10, 23
_PMTUDISC_PROBE = 3
"""linux/in.h: never fragment, and send whatever the device can, also if a router once said that it is too much."""


def receiving(ns: NamespaceRef) -> socket.socket:
    """Return a socket for the probes that arrive in a namespace; the caller closes it. Raises `KernelError`."""
    with translated(f"packet socket in {ns}"), namespaces.descriptor(ns) as fd, namespaces.entered(fd):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(ETHERTYPE))
    sock.setblocking(False)  # noqa: FBT003 - the library's own
    return sock


def sending(address: IpAddress) -> socket.socket:
    """Return a socket that sends from a VTEP's address and never fragments. Raises `KernelError`."""
    is_ipv4 = Family.of(address) is Family.V4
    family = socket.AF_INET if is_ipv4 else socket.AF_INET6
    with translated(f"probes from {address}"), ExitStack() as failure:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        failure.callback(sock.close)
        if is_ipv4:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        sock.setblocking(False)  # noqa: FBT003 - the library's own
        sock.bind((str(address), 0))
        failure.pop_all()
    return sock
