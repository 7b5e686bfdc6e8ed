"""Whether a container's sandbox still exists, according to the kernel."""

from enum import Enum, auto

from overlayd.agent.records.attachment_records import Attachment
from overlayd.dataplane.desired.endpoint import host_end
from overlayd.dataplane.items import HOST, network_namespace
from overlayd.kernel.port import Kernel


class Presence(Enum):
    """What is known of a sandbox.

    REACHABLE: its path leads to it. OUT_OF_REACH: its path leads nowhere, or to another namespace, and still it lives,
    as the two ends of a veth pair go together. ASIDE: the interface is in the host's own namespace, as its runtime has
    not moved it into the sandbox yet, or has moved it back. GONE: no interface of ours can be in it, so its addresses
    are unused.
    """

    REACHABLE = auto()
    ASIDE = auto()
    OUT_OF_REACH = auto()
    GONE = auto()


def presence(kernel: Kernel, attachment: Attachment) -> Presence:
    """Return whether a sandbox exists and can be reached; raise `KernelError`. The caller holds the kernel lock."""
    endpoint = attachment.endpoint
    if attachment.is_handed_over and kernel.has_device(HOST, endpoint.interface):
        return Presence.ASIDE
    if kernel.sandbox_id(endpoint.sandbox) == attachment.sandbox_id:
        return Presence.REACHABLE
    lives = kernel.has_device(network_namespace(endpoint.network), host_end(endpoint.key))
    return Presence.OUT_OF_REACH if lives else Presence.GONE
