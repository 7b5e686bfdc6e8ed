"""Attaching a workload to a network, and detaching it."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from weakref import WeakValueDictionary

from overlayd.agent.attach.addressing import Addressing
from overlayd.agent.attach.admission import BOUNDS, Admission
from overlayd.agent.attach.announcements import Announcements
from overlayd.agent.attach.interfaces import Interfaces
from overlayd.agent.attach.leavers import Leavers
from overlayd.agent.attach.occupancy import Occupancy
from overlayd.agent.attach.reaper import Reaper
from overlayd.agent.attach.request import AttachmentName, AttachRequest, AttachResult, result_of
from overlayd.agent.holdings.blocks import HeldBlocks
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from overlayd.agent.records.port_claims import check_ports
from overlayd.agent.records.presence import Presence, presence
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.agent.runtime.signals import Changes
from overlayd.agent.runtime.under_way import to_the_end
from overlayd.dataplane.desired.endpoint import host_end
from overlayd.dataplane.items import network_namespace
from overlayd.kernel.port import KernelError
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.errors import AlreadyExists, NotFound, OverlayError, Unavailable
from overlayd.model.ids import NetworkName
from overlayd.model.network import Network, Topology
from overlayd.model.published_port import PortMapping

_UNUSED = frozenset({Presence.ASIDE, Presence.GONE})


class Attachments:
    """The attachments of this host. `changes` counts those that came or went."""

    def __init__(
        self,
        turn: KernelTurn,
        records: AttachmentRecords,
        blocks: HeldBlocks,
        addressing: Addressing,
        reconciler: Reconciler,
    ) -> None:
        self.changes = Changes()
        self.announcements = Announcements(turn, self._is_current)
        self.reaper = Reaper(turn.kernel)
        self._turn = turn
        self._kernel = turn.kernel
        self._records = records
        self._blocks = blocks
        self._addressing = addressing
        self._reconciler = reconciler
        self._admission = Admission(BOUNDS)
        self._occupancy = Occupancy(turn, records, blocks, self.release)
        self._leavers = Leavers(time.monotonic)
        self._interfaces = Interfaces(turn, addressing, reconciler)
        self._locks: WeakValueDictionary[EndpointKey, asyncio.Lock] = WeakValueDictionary()

    async def attach(self, request: AttachRequest) -> AttachResult:
        """Attach a sandbox; return when the endpoint is in force on this host. A failure leaves nothing behind.

        Raises:
            NotFound: the network or the sandbox does not exist.
            InvalidValue: the sandbox is the agent's own, or cannot have this network in addition to those that it has.
            AlreadyExists: the interface, or the address or the port that was asked for, is taken.
            InUse: the network is being deleted, or this host is draining, and this was not detached a moment ago.
            Exhausted: neither this host's blocks nor the network have an address left.
            KernelError: the kernel refused.
            Unavailable: it takes a controller to go on, and none answers; too many are attached at the same time; or
                this agent is short of descriptors.
        """
        key = request.name.key(self._blocks.host)
        async with self._alone(key):  # first of all: a DEL that comes now must not overtake this
            if key in self._records.attachments:
                raise AlreadyExists(f"{key[3]} of this container is attached to {key[0]}", field="interface")
            async with self._admission.admitted(key):
                sandbox_id, is_in_place = self._occupancy.look(request)
                async with self._blocks.attaching(
                    key[0], comes_back=self._leavers.comes_back(key, sandbox_id)
                ) as network:
                    await self._occupancy.check(network, request, sandbox_id)
                    async with self._addressing.chosen(network, request) as endpoint:
                        made = Attachment(
                            endpoint,
                            sandbox_id,
                            request.ports,
                            request.bandwidth,
                            has_way_out=network.has_egress,
                            owner=request.owner,
                            is_handed_over=request.is_handed_over,
                        )
                        await self.reaper.free(endpoint)
                        await self._reconciler.ensure(network.name, is_in_place=is_in_place)
                        is_new = request.is_handed_over and not self._addressing.has_reserved(request)
                        await self._bring_up(network, made, takes_over=request.takes_over and not is_new)
        self.changes.set()
        return result_of(network, endpoint, self._reconciler.mtu)

    async def detach(self, name: AttachmentName, owner: NetworkName | None = None) -> None:
        """Detach a sandbox and free its address; does nothing when there is no such attachment of its runtime.

        An attachment that is still being made is waited for, as its runtime gave up on it; one that is not begun is
        refused. What `owner` attached as this interface to other networks is detached too: its configuration may have
        named another network between the two requests, and no later request will name that attachment.
        """
        for key in (name.key(self._blocks.host), *self._attached_elsewhere(name, owner)):
            self._admission.withdraw(key)
            async with self._alone(key):
                attachment = self._records.attachments.get(key)
                if attachment is None:
                    await self._detach_stray(key)
                    continue
                if not name.means(attachment.endpoint):
                    continue
                await self._release(attachment)
                if attachment.ports:
                    await self._reconciler.redirect(attachment.endpoint.network, self._turn.taken_to_remove)

    async def publish(self, name: AttachmentName, ports: tuple[PortMapping, ...]) -> None:
        """Let these ports of the host lead to an attachment, and no others; return when that is in force.

        Raises:
            NotFound: there is no such attachment.
            InvalidValue: nothing leads into its network, or it has no addresses of the family.
            AlreadyExists: another container has one of the ports.
            KernelError: the kernel refused; the ports are as before.
            Unavailable: ports cannot be published before a controller says what other networks here are.
        """
        key = name.key(self._blocks.host)
        async with self._alone(key):
            before = self._records.attachments.get(key)
            if before is None or not name.means(before.endpoint):
                raise NotFound(f"{name.container_id} is not attached to network {name.network}", field="name")
            wanted = replace(before, ports=ports)
            if wanted == before:
                return
            if ports:
                await self._check_ports(wanted)
            await self._exchange(before, wanted)
        self.changes.set()

    async def _check_ports(self, wanted: Attachment) -> None:
        if self._reconciler.keeps_rules:
            raise Unavailable("ports cannot be published before a controller says what other networks here are")
        await self._occupancy.free_ports(wanted)
        check_ports(self._blocks.network(wanted.endpoint.network), wanted, self._records.attachments.values())

    async def _exchange(self, before: Attachment, wanted: Attachment) -> None:
        """Replace the record of an attachment by one with other published ports, and redirect these in the kernel."""
        network = wanted.endpoint.network
        self._records.put(wanted)
        try:
            await self._reconciler.redirect(network, self._turn.taken if wanted.ports else self._turn.taken_to_remove)
        except (asyncio.CancelledError, OverlayError):
            if wanted.ports:
                self._records.put(before)
            self._reconciler.redirect_soon(network)
            raise

    def find(self, name: AttachmentName) -> Attachment | None:
        """Return the record of an attachment; None when its runtime has none of this name."""
        found = self._records.attachments.get(name.key(self._blocks.host))
        return found if found and name.means(found.endpoint) else None

    async def check(self, attachment: Attachment, sandbox: str, mtu: int | None) -> tuple[str, ...]:
        """Return the differences between an attachment and its record, one sentence each; empty when there are none.

        `sandbox` is where its runtime says that it is, `mtu` what its runtime knows as the MTU of its interface.
        Raises `Unavailable` when its network is not in force, or `KernelError`.
        """
        endpoint = attachment.endpoint
        if await self._turn.call(self._kernel.sandbox_id, sandbox) != attachment.sandbox_id:
            return (f"{sandbox} is not the sandbox that was attached",)
        if lost := self._addressing.lost(endpoint):
            return tuple(
                f"{address} is held by a reservation that the container lost" for address in sorted(lost, key=str)
            )
        await self._reconciler.ensure(endpoint.network)
        async with self._turn.taken():
            return await self._interfaces.differences(self._blocks.network(endpoint.network), attachment, mtu)

    async def gone(self, attachments: Iterable[Attachment]) -> list[Attachment]:
        """Return the attachments that no container can be using; raise `KernelError`.

        They have nothing in the kernel, and their sandbox is gone; or their interface is in the host's own namespace,
        which lasts for a moment only while their runtime moves it.
        """
        asked = list(attachments)
        async with self._turn.taken():
            found = await self._turn.call(lambda: [presence(self._kernel, each) for each in asked])
        return [each for each, what in zip(asked, found, strict=True) if what in _UNUSED]

    async def release(self, attachment: Attachment) -> bool:
        """Detach an attachment whose container is gone; return whether it was recorded and its container gone.

        Raises `KernelError`, or `OSError` when its record cannot be removed.
        """
        return await self._release_if(attachment, frozenset({Presence.GONE}))

    async def free_unused(self, attachment: Attachment) -> bool:
        """Detach an attachment that `gone` returned, and release its addresses; return whether it was still gone.

        Raises `KernelError`, or `OSError` when its record cannot be removed.
        """
        is_freed = await self._release_if(attachment, _UNUSED)
        if is_freed:
            for address in attachment.endpoint.addresses:
                self._addressing.let_go(attachment.endpoint.network, address)
        return is_freed

    async def _release_if(self, attachment: Attachment, expected: frozenset[Presence]) -> bool:
        key = attachment.endpoint.key
        async with self._alone(key):
            if self._records.attachments.get(key) is not attachment:
                return False
            async with self._turn.taken():
                if await self._turn.call(presence, self._kernel, attachment) not in expected:
                    return False
            await self._release(attachment)
            if attachment.ports:
                await self._reconciler.redirect(attachment.endpoint.network, self._turn.taken_to_remove)
        return True

    async def _bring_up(self, network: Network, attachment: Attachment, *, takes_over: bool) -> None:
        """Bring an attachment into force. `takes_over`: its addresses may have been another endpoint's until now."""
        await self._occupancy.free_ports(attachment)
        if takes_over:
            # Whatever led to the addresses so far must be gone.
            await self._reconciler.refresh()
        async with AsyncExitStack() as failure:

            def begin() -> None:
                check_ports(network, attachment, self._records.attachments.values())
                if attachment.ports and self._reconciler.keeps_rules:
                    raise Unavailable("ports cannot be published before a controller says what other networks here are")
                failure.push_async_callback(self._undo, attachment)
                # The record comes first: whatever a crash leaves in the kernel then has an owner.
                self._records.put(attachment)

            await self._interfaces.make(network, attachment, begin)
            if takes_over and network.topology is Topology.SWITCHED:
                async with self._turn.taken():
                    await self.announcements.announce(attachment.endpoint, is_handed_over=attachment.is_handed_over)
            if attachment.ports:
                await self._reconciler.redirect(network.name, self._turn.taken)
            failure.pop_all()

    async def _undo(self, attachment: Attachment) -> None:
        """Remove what an attachment made that failed. A cancellation comes after that."""
        await to_the_end(self._remove_failed(attachment))

    async def _remove_failed(self, attachment: Attachment) -> None:
        # What made it fail may have been there, and go with it.
        await self._retire(attachment, self._suspect)
        if attachment.ports:
            await self._reconciler.redirect(attachment.endpoint.network, self._turn.taken_to_remove)

    async def _release(self, attachment: Attachment) -> None:
        """Take an attachment's devices out of use, and free its addresses; the caller removes its ports after that.

        Once begun, it goes on to its end: without a record none would repeat it.
        """
        self._leavers.leaves(attachment)
        try:
            await self._retire(attachment, self._free)
        except asyncio.CancelledError:
            if attachment.ports:
                self._reconciler.redirect_soon(attachment.endpoint.network)
            raise

    def _free(self, endpoint: Endpoint) -> None:
        if self._addressing.lost(endpoint) or self._blocks.network_or_none(endpoint.network) is None:
            # The controllers forgot it long ago, so no news of its end will come.
            self._suspect(endpoint)
        self._addressing.freed(endpoint)
        self.changes.set()

    def _suspect(self, endpoint: Endpoint) -> None:
        """Have the reconcile cycle look at the network of an endpoint."""
        self._reconciler.drift.suspect(frozenset({network_namespace(endpoint.network)}))

    async def _retire(self, attachment: Attachment, then: Callable[[Endpoint], None]) -> None:
        """Take an attachment's devices out of use and remove its record; `then` is called with the kernel lock held."""
        endpoint = attachment.endpoint

        def end() -> None:
            self.reaper.retired(endpoint)
            self._records.remove(endpoint.key)
            then(endpoint)

        try:
            await self._interfaces.retire(self._blocks.network_or_none(endpoint.network), attachment, end)
        except KernelError:
            self._suspect(endpoint)
            raise

    async def _detach_stray(self, key: EndpointKey) -> None:
        """Take out of use the interface of a container that has no record: its name tells whose it is."""
        found = [each for each in self._records.strays if (each.network, each.device) == (key[0], host_end(key))]
        for stray in found:
            async with self._turn.taken_to_remove():
                await self._interfaces.remove_stray(stray)
            self._records.release(found)
            self._reconciler.drift.suspect(frozenset({network_namespace(stray.network)}))

    def _attached_elsewhere(self, name: AttachmentName, owner: NetworkName | None) -> list[EndpointKey]:
        """Return the endpoints of this interface in other networks, which `owner` attached."""
        return [
            key
            for key, attachment in self._records.attachments.items()
            if owner is not None
            and attachment.owner == owner
            and key[0] != name.network
            and key[2:] == (name.container_id, name.interface)
        ]

    def _alone(self, key: EndpointKey) -> asyncio.Lock:
        """Return the lock that serialises requests for one interface of one container."""
        return self._locks.setdefault(key, asyncio.Lock())

    def _is_current(self, endpoint: Endpoint) -> bool:
        """Return whether an endpoint is attached and has all its addresses."""
        attachment = self._records.attachments.get(endpoint.key)
        return attachment is not None and attachment.endpoint == endpoint and not self._addressing.lost(endpoint)
