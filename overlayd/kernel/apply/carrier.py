"""Makes new veth pairs able to send at once.

The end of a veth pair that is set up first has no carrier until the other one is up, and the kernel drops what it sends
until a work queue has looked at that (net/core/link_watch.c). On a busy machine this takes long enough for the first
packets of a container. Asking for the carrier makes the kernel update it at once (linux/ethtool.h: ETHTOOL_GLINK,
net/ethtool/ioctl.c: ethtool_op_get_link).
"""

import socket
from collections.abc import Iterable
from contextlib import suppress

from overlayd.dataplane.items import Link, Veth
from overlayd.dataplane.plan import Add, Change
from overlayd.kernel.apply.ethtool import ethtool, ethtool_over
from overlayd.kernel.port import KernelError, Outcome
from overlayd.kernel.spaces.namespaces import descriptor
from overlayd.model.ids import InterfaceName

_GET_LINK = 0x0A


def settle_over(sandbox: socket.socket, device: InterfaceName) -> None:
    """Let a container send by one of its devices; `sandbox` is a socket of its namespace."""
    with suppress(KernelError):  # the container may be gone again
        ethtool_over(sandbox, device, _GET_LINK)


def settle(outcomes: Iterable[Outcome]) -> None:
    """Update the carrier of the veth pairs that these operations have set up."""
    for outcome in outcomes:
        match outcome.op:
            case Add(item=Link(kind=Veth(peer=peer), up=True)) | Change(item=Link(kind=Veth(peer=peer), up=True)):
                if outcome.done and peer:
                    with suppress(KernelError), descriptor(peer.ns) as fd:  # the container may be gone again
                        ethtool(fd, peer.name, _GET_LINK)
            case _:
                pass
