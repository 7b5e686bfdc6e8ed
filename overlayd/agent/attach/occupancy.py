"""Conflicts of a new attachment with earlier ones: the ranges of a sandbox, and ports of the host."""

import asyncio
from collections.abc import Awaitable, Callable

from overlayd.agent.attach.request import AttachRequest
from overlayd.agent.holdings.blocks import HeldBlocks
from overlayd.agent.records.attachment_records import UNKNOWN_SANDBOX, Attachment, AttachmentRecords
from overlayd.agent.records.port_claims import claimants
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.dataplane.items import HOST, network_namespace
from overlayd.model.address import overlap
from overlayd.model.errors import InvalidValue, NotFound, Unavailable
from overlayd.model.ids import NetworkName
from overlayd.model.network import Network, Topology

_LAST_BREATH, _GLANCE = 2.0, 0.05
"""Seconds in which the kernel has taken a dead container's namespace apart, and between two looks at it."""

SandboxId = tuple[int, int]
"""Device and inode of a network namespace."""


class Occupancy:
    """Checks a request against the attachments of this host, and releases those whose containers are gone.

    `release` releases an attachment and returns whether its container was gone.
    """

    def __init__(
        self,
        turn: KernelTurn,
        records: AttachmentRecords,
        blocks: HeldBlocks,
        release: Callable[[Attachment], Awaitable[bool]],
    ) -> None:
        self._turn = turn
        self._kernel = turn.kernel
        self._records = records
        self._blocks = blocks
        self._release = release

    def look(self, request: AttachRequest) -> tuple[SandboxId, bool]:
        """Return which namespace the sandbox's path leads to, and whether that of the network is in place.

        The first is `UNKNOWN_SANDBOX` where its runtime makes the sandbox later. This is called on the event loop: to
        open two files takes less time than to wait for the kernel's thread, and needs neither that nor its lock.

        Raises:
            NotFound: the path leads to no namespace.
            InvalidValue: it leads to the host's own, or to that of a network.
            KernelError: the kernel does not say.
            Unavailable: this agent is short of descriptors.
        """
        if shortage := self._kernel.shortage():
            raise Unavailable(f"nothing new is attached on this host: {shortage}")
        path = request.sandbox
        found, is_found = self._kernel.sandbox_id(path), self._kernel.is_found(network_namespace(request.name.network))
        if found is None:
            if request.is_handed_over:
                return UNKNOWN_SANDBOX, is_found
            raise NotFound(f"{path!r} is no network namespace", field="sandbox")
        if own := self._kernel.own(found):
            whose = "the host's own network namespace" if own == HOST else f"the namespace of a network, {own}"
            raise InvalidValue(f"{path!r} is {whose}", field="sandbox")
        return found, is_found

    async def check(self, network: Network, request: AttachRequest, sandbox_id: SandboxId) -> None:
        """Raise `InvalidValue` if the network cannot fulfil the request, or the sandbox cannot have the network.

        One sandbox has one interface with the same ranges: its routes could lead to one of them only. The kernel
        itself refuses the same interface a second time.
        """
        if request.needs_egress and not network.has_egress:
            raise InvalidValue(f"true, and network {network.name} has no egress", field="needs_egress")
        for attachment in self._of_sandbox(request, sandbox_id):
            endpoint = attachment.endpoint
            if endpoint.interface == request.name.interface:
                continue
            # The kernel gives the number of a namespace that is gone to another one.
            if self._share_ranges(network, endpoint.network) and await self._is_held_by(attachment):
                where = f"the container is in network {endpoint.network} by {endpoint.interface}"
                why = (
                    "can be there once" if endpoint.network == network.name else f"the range of {network.name} overlaps"
                )
                raise InvalidValue(f"{where}, and {why}", field="name")
            other = self._blocks.network_or_none(endpoint.network)
            shares_gateway = request.is_handed_over and other is not None and _share_gateway(network, other)
            if shares_gateway and await self._is_held_by(attachment):
                gateway = network.link_local_gateway(min(network.families))
                where = f"the container is in network {endpoint.network}"
                raise InvalidValue(f"{where}, and {network.name} has the same gateway, {gateway}", field="name")

    def _of_sandbox(self, request: AttachRequest, sandbox_id: SandboxId) -> list[Attachment]:
        """Return the attachments of a sandbox; on one without a number yet, by its path."""
        known = self._records.attachments.values()
        if request.is_handed_over:
            path = request.sandbox
            return [
                each
                for each in known
                if each.endpoint.sandbox == path or each.sandbox_id == sandbox_id != UNKNOWN_SANDBOX
            ]
        return [each for each in known if each.sandbox_id == sandbox_id]

    async def free_ports(self, wanted: Attachment) -> None:
        """Release the attachments that hold a port of a new one and whose containers are gone."""
        for other in claimants(wanted, self._records.attachments.values()):
            await self._is_held_by(other)

    def _share_ranges(self, network: Network, name: NetworkName) -> bool:
        other = network if name == network.name else self._blocks.network_or_none(name)
        return other is not None and any(
            overlap(pool.range, theirs.range) for pool in network.pools for theirs in other.pools
        )

    async def _is_held_by(self, attachment: Attachment) -> bool:
        """Return whether an attachment is in use; one whose container is gone is released here.

        A sandbox to which no path leads may be ending: the kernel destroys a namespace some time after its last user.
        """
        key, now = attachment.endpoint.key, asyncio.get_running_loop().time
        until = now() + _LAST_BREATH
        while self._records.attachments.get(key) is attachment:
            if await self._release(attachment):
                return False
            sandbox_id = await self._turn.call(self._kernel.sandbox_id, attachment.endpoint.sandbox)
            if sandbox_id == attachment.sandbox_id or now() >= until:
                return True
            await asyncio.sleep(_GLANCE)
        return False


def _share_gateway(one: Network, other: Network) -> bool:
    routed = one.topology is Topology.ROUTED and other.topology is Topology.ROUTED
    return routed and one.gateway_number == other.gateway_number
