"""Deletes links in groups: each deletion waits for an RCU grace period of about 20 ms, that of a group only once."""

from collections.abc import Mapping, Sequence

from overlayd.kernel.netlink import link_messages
from overlayd.kernel.netlink.transport import Netlink
from overlayd.kernel.port import KernelError
from overlayd.model.ids import InterfaceName

_GROUP_MAX = 1_000
"""Links deleted at one stroke: marking and deleting them must be one send, so that no mark is left behind."""


def delete_links(netlink: Netlink, names: Sequence[InterfaceName]) -> Mapping[int, KernelError]:
    """Delete links of one namespace; return the errors by position."""
    errors: dict[int, KernelError] = {}
    for start in range(0, len(names), _GROUP_MAX):
        part = names[start : start + _GROUP_MAX]
        errors |= {start + position: error for position, error in _delete(netlink, part).items()}
    return errors


def _delete(netlink: Netlink, names: Sequence[InterfaceName]) -> Mapping[int, KernelError]:
    if len(names) > 1:
        errors = netlink.batch([*(link_messages.doomed(name) for name in names), link_messages.group_deleted()])
        if len(names) not in errors:
            return errors
    return netlink.batch([link_messages.deleted(name) for name in names])
