"""All notifications of the kernel about changes of its tables."""

import socket

from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.netlink.rtnetlink import RTM_DELNEIGH, RTM_NEWADDR, RTM_NEWNEIGH, RTM_NEWROUTE
from overlayd.kernel.spaces import namespaces
from overlayd.kernel.watch.notifications import Notifications
from tests.support.lab.lab import LabHost

Heard = tuple[str, int]
"""The namespace, and the type of the kernel's message."""


class Listening:
    """Collects what changes in the namespaces of a host's networks, and what others change in its own."""

    def __init__(self, host: LabHost, *networks: str) -> None:
        places = {name: f"/proc/{host.pid}/root/run/netns/ov-{name}" for name in networks}
        self._sockets = {"host": _open(f"/proc/{host.pid}/ns/net")} | {
            name: _open(path) for name, path in places.items()
        }

    def heard(self) -> list[Heard]:
        """Return the notifications since the last call."""
        return [
            (name, kind)
            for name, sockets in self._sockets.items()
            for each in sockets
            for kind, payload in each.queued()
            if name != "host" or not _by_itself(kind, payload)
        ]

    def close(self) -> None:
        for sockets in self._sockets.values():
            for each in sockets:
                each.close()


def _by_itself(kind: int, payload: bytes) -> bool:
    """Return whether the kernel may have done it by itself: by ARP, or when an IPv6 address turns out to be unique."""
    found = kind in {RTM_NEWNEIGH, RTM_DELNEIGH}
    return found or (kind in {RTM_NEWADDR, RTM_NEWROUTE} and payload[0] == socket.AF_INET6)


def _open(path: str) -> list[Notifications]:
    with namespaces.descriptor(NamespaceRef(path)) as fd, namespaces.entered(fd):
        return [each for each in (Notifications.of_rtnetlink(()), Notifications.of_nftables()) if each]
