"""Attaching a workload to a network, and detaching it."""

import asyncio
import errno
from collections.abc import Iterable
from contextlib import AsyncExitStack
from weakref import WeakValueDictionary

from overlayd.agent.attach.addressing import Addressing
from overlayd.agent.attach.admission import BOUNDS, Admission
from overlayd.agent.attach.announcements import Announcements
from overlayd.agent.attach.reaper import Reaper
from overlayd.agent.attach.verification import allowed, contradictions, described, strange_mac
from overlayd.agent.holdings.blocks import HeldBlocks
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from overlayd.agent.records.port_claims import check_ports, claimants
from overlayd.agent.records.presence import Presence, presence
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.agent.runtime.signals import Changes
from overlayd.agent.runtime.uninterrupted import to_the_end
from overlayd.dataplane import ownership
from overlayd.dataplane.diff import diff, retirement
from overlayd.dataplane.endpoint import (
    destinations,
    endpoint_address,
    gateway_of,
    host_end,
    resolve_endpoint,
    resolve_limits,
    without_guard,
    without_sandbox,
    without_way_out,
)
from overlayd.dataplane.items import HOST, Link, NamespaceRef, State, Veth, VethPeer, network_namespace
from overlayd.kernel.port import KernelError, Outcome
from overlayd.model.address import Family, overlap
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.errors import AlreadyExists, InvalidValue, NotFound, Unavailable
from overlayd.model.ids import InterfaceName, NetworkName
from overlayd.model.network import Network, Topology
from overlayd.wire.cni import Request
from overlayd.wire.cni_error import CniError, Code
from overlayd.wire.cni_result import Assigned, Result

_LAST_BREATH, _GLANCE = 2.0, 0.05
"""Seconds in which the kernel has taken a dead container's namespace apart, and between two looks at it."""


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
        self._locks: WeakValueDictionary[EndpointKey, asyncio.Lock] = WeakValueDictionary()

    async def attach(self, request: Request) -> Result:
        """Attach a sandbox; return when the endpoint is in force on this host. A failure leaves nothing behind.

        Raises:
            NotFound: the network or the sandbox does not exist.
            InvalidValue: the sandbox is the agent's own, or cannot take this network beside those that it has.
            AlreadyExists: the interface, or the address or the port that was asked for, is taken.
            InUse: the network is being deleted, or this host is to get nothing new.
            Exhausted: neither this host's blocks nor the network have an address left.
            KernelError: the kernel refused.
            Unavailable: it takes a controller to go on, and none answers; too many are attached at the same time; or
                this agent is short of descriptors.
        """
        if shortage := await self._turn.call(self._kernel.shortage):
            raise Unavailable(f"nothing new is attached on this host: {shortage}")
        key = self._key(request)
        async with self._alone(key):
            if key in self._records.attachments:
                raise AlreadyExists(
                    f"{request.interface} of this container is attached to {request.network}", field="CNI_IFNAME"
                )
            async with self._admission.admitted(key):
                sandbox_id = await self._sandbox_id(request.sandbox)
                async with self._blocks.attaching(request.network) as network:
                    _check_masquerade(network, request)
                    await self._check_neighbours_in_sandbox(network, sandbox_id, request.interface)
                    async with self._addressing.chosen(network, request, key) as endpoint:
                        moves = bool(request.wishes.reservations or request.wishes.addresses)
                        wishes = request.wishes.ports, request.wishes.bandwidth
                        made = Attachment(
                            endpoint, sandbox_id, *wishes, has_way_out=network.has_egress, conf=request.conf
                        )
                        await self._bring_up(network, made, moves=moves)
        self.changes.set()
        return self._result(network, endpoint, request)

    async def detach(self, request: Request) -> None:
        """Detach a sandbox and free its address; does nothing when there is no such attachment.

        An attachment that is still being made is waited for, as its runtime gave up on it; one that is not begun is
        refused.
        """
        for key in (self._key(request), *self._attached_elsewhere(request)):
            self._admission.withdraw(key)
            async with self._alone(key):
                attachment = self._records.attachments.get(key)
                if attachment is None:
                    await self._detach_stray(key)
                    continue
                async with self._turn.taken_to_remove():
                    await self._release(attachment)
                if attachment.ports:
                    await self._reconciler.redirect(attachment.endpoint.network, self._turn.taken_to_remove)

    async def _detach_stray(self, key: EndpointKey) -> None:
        """Take out of use the interface of a container that has no record: its name tells whose it is."""
        found = [each for each in self._records.strays if (each.network, each.device) == (key[0], host_end(key))]
        for stray in found:
            device = Link(network_namespace(stray.network), stray.device, Veth(), None, None)
            async with self._turn.taken_to_remove():
                _raise_first(await self._turn.call(self._kernel.apply, retirement(frozenset({device}))))
                await self._turn.call(self._kernel.reap, [device.ns])
            self._records.release(found)
            self._reconciler.drift.suspect(frozenset({device.ns}))

    def _attached_elsewhere(self, request: Request) -> list[EndpointKey]:
        """Return what the request's config attached as this interface to other networks than it names now.

        A list may be changed between ADD and DEL, and nothing else will ever name that attachment.
        """
        return [
            key
            for key, attachment in self._records.attachments.items()
            if attachment.conf == request.conf
            and attachment.endpoint.network != request.network
            and (attachment.endpoint.container_id, attachment.endpoint.interface)
            == (request.container_id, request.interface)
        ]

    async def gone(self, attachments: Iterable[Attachment]) -> list[Attachment]:
        """Return those of which nothing is in the kernel, and no sandbox where it was; raise `KernelError`."""
        asked = list(attachments)
        async with self._turn.taken():
            found = await self._turn.call(lambda: [presence(self._kernel, each) for each in asked])
        return [each for each, what in zip(asked, found, strict=True) if what is Presence.GONE]

    async def release(self, attachment: Attachment) -> bool:
        """Detach what is gone; tell whether it was still there to be detached, and gone.

        Raises `KernelError`, or `OSError` when its record cannot be removed.
        """
        key = attachment.endpoint.key
        async with self._alone(key):
            if self._records.attachments.get(key) is not attachment:
                return False
            async with self._turn.taken():
                if await self._turn.call(presence, self._kernel, attachment) is not Presence.GONE:
                    return False
                await self._release(attachment)
            if attachment.ports:
                await self._reconciler.redirect(attachment.endpoint.network, self._turn.taken_to_remove)
        return True

    async def _release(self, attachment: Attachment) -> None:
        """Take what an attachment made out of use, and free its addresses; the caller takes its ports away after that.

        Once begun, it goes on to its end: without a record none would repeat it. The caller holds the kernel's turn.
        """
        try:
            await to_the_end(self._retire_and_free(attachment))
        except asyncio.CancelledError:
            if attachment.ports:
                self._reconciler.redirect_soon(attachment.endpoint.network)
            raise

    async def _retire_and_free(self, attachment: Attachment) -> None:
        await self._retire(attachment)
        endpoint = attachment.endpoint
        if self._addressing.lost(endpoint):
            # The controllers forgot it long ago, so no news of its end will come.
            self._reconciler.drift.suspect(frozenset({network_namespace(endpoint.network)}))
        self._addressing.freed(endpoint)
        self.changes.set()

    async def check(self, request: Request) -> tuple[str, ...]:
        """Return what of an attachment is not as it was made, one sentence each; empty when all is well.

        Raises `CniError` when there is none.
        """
        attachment = self._records.attachments.get(self._key(request))
        if attachment is None:
            what = f"{request.interface} of this container is not attached to {request.network}"
            raise CniError(Code.UNKNOWN_CONTAINER, what)
        endpoint = attachment.endpoint
        if found := tuple(contradictions(request, attachment)):
            return found
        if await self._turn.call(self._kernel.sandbox_id, request.sandbox) != attachment.sandbox_id:
            return (f"{request.sandbox} is not the sandbox that was attached",)
        if lost := self._addressing.lost(endpoint):
            return tuple(
                f"{address} is held by a reservation that the container lost" for address in sorted(lost, key=str)
            )
        await self._reconciler.ensure(request.network)
        async with self._turn.taken():
            items = self._items(self._blocks.network(request.network), attachment)
            if not attachment.has_way_out:
                items = without_way_out(items)
            inside = await self._turn.call(self._kernel.link, NamespaceRef(endpoint.sandbox), endpoint.interface)
            if strange := strange_mac(endpoint, inside):
                return (strange,)
            missing = await self._turn.call(self._kernel.missing, allowed(items, endpoint, request, inside))
            if attachment.ports:
                missing |= await self._reconciler.misdirected(request.network)
        return tuple(sorted(map(described, missing)))

    def _key(self, request: Request) -> EndpointKey:
        return (request.network, self._blocks.host, request.container_id, request.interface)

    def _alone(self, key: EndpointKey) -> asyncio.Lock:
        """Return what keeps two requests for one interface of one container apart."""
        return self._locks.setdefault(key, asyncio.Lock())

    async def _sandbox_id(self, path: str) -> tuple[int, int]:
        found, own = await self._turn.call(lambda: (self._kernel.sandbox_id(path), self._kernel.sandbox_id(HOST)))
        if found is None:
            raise NotFound(f"{path!r} is no network namespace", field="CNI_NETNS")
        if found == own:
            raise InvalidValue(f"{path!r} is the host's own network namespace", field="CNI_NETNS")
        return found

    async def _check_neighbours_in_sandbox(
        self, network: Network, sandbox_id: tuple[int, int], interface: InterfaceName
    ) -> None:
        """Refuse a second interface with the same ranges in one sandbox: routes could only lead to one of them.

        Of the same interface a second time the kernel tells.
        """
        for attachment in list(self._records.attachments.values()):
            endpoint = attachment.endpoint
            if endpoint.interface == interface or attachment.sandbox_id != sandbox_id:
                continue
            if not self._share_ranges(network, endpoint.network):
                continue
            # The kernel gives the number of a namespace that is gone to another one.
            if await self._is_taken_by(attachment):
                where = f"the container is in network {endpoint.network} by {endpoint.interface}"
                why = (
                    "can be there once" if endpoint.network == network.name else f"the range of {network.name} overlaps"
                )
                raise InvalidValue(f"{where}, and {why}", field="name")

    def _share_ranges(self, network: Network, name: NetworkName) -> bool:
        other = network if name == network.name else self._blocks.network_or_none(name)
        return other is not None and any(
            overlap(pool.range, theirs.range) for pool in network.pools for theirs in other.pools
        )

    async def _is_taken_by(self, attachment: Attachment) -> bool:
        """Tell whether an attachment goes on; one whose container is gone is released here.

        One that no path leads to may be about to go: the kernel takes a namespace apart at its leisure.
        """
        key, now = attachment.endpoint.key, asyncio.get_running_loop().time
        until = now() + _LAST_BREATH
        while self._records.attachments.get(key) is attachment:
            if await self.release(attachment):
                return False
            sandbox_id = await self._turn.call(self._kernel.sandbox_id, attachment.endpoint.sandbox)
            if sandbox_id == attachment.sandbox_id or now() >= until:
                return True
            await asyncio.sleep(_GLANCE)
        return False

    async def _bring_up(self, network: Network, attachment: Attachment, *, moves: bool) -> None:
        """Bring an attachment into force. `moves`: its addresses may have been another endpoint's until now."""
        await self.reaper.free(attachment.endpoint)
        await self._reconciler.ensure(network.name)
        for other in claimants(attachment, self._records.attachments.values()):
            await self._is_taken_by(other)
        if moves:
            # Whatever led to the addresses so far must be gone.
            await self._reconciler.refresh()
        async with AsyncExitStack() as failure:
            async with self._turn.taken():
                check_ports(network, attachment, self._records.attachments.values())
                if attachment.ports and self._reconciler.keeps_rules:
                    raise Unavailable("ports cannot be published before a controller says what other networks here are")
                failure.push_async_callback(self._undo, attachment)
                # The record comes first: whatever a crash leaves in the kernel then has an owner.
                self._records.put(attachment)
                plan = diff(self._items(network, attachment), frozenset())
                _raise_first(await self._turn.call(self._kernel.apply, plan))
                if moves and network.topology is Topology.SWITCHED:
                    await self.announcements.announce(attachment.endpoint)
            if attachment.ports:
                await self._reconciler.redirect(network.name, self._turn.taken)
            failure.pop_all()

    async def _undo(self, attachment: Attachment) -> None:
        """Remove what an attachment made that failed. A cancellation comes after that."""
        await to_the_end(self._remove_failed(attachment))

    async def _remove_failed(self, attachment: Attachment) -> None:
        async with self._turn.taken_to_remove():
            await self._retire(attachment)
        if attachment.ports:
            await self._reconciler.redirect(attachment.endpoint.network, self._turn.taken_to_remove)

    async def _retire(self, attachment: Attachment) -> None:
        """Take what an attachment made out of use, and forget it. The caller holds the kernel's turn."""
        endpoint = attachment.endpoint
        network = self._blocks.network_or_none(endpoint.network)
        if network is not None:
            owned = frozenset(item for item in self._items(network, attachment) if ownership.owns(item))
        else:
            # Nobody knows what else hangs on it; but a device that stays would look like a container without a record.
            owned = frozenset({_bare_pair(endpoint)})
        _raise_first(await self._turn.call(self._take_out_of_use, attachment, owned))
        self.reaper.retired(endpoint)
        self._records.remove(endpoint.key)

    def _take_out_of_use(self, attachment: Attachment, owned: State) -> tuple[Outcome, ...]:
        """Take the endpoint's devices out of use. A sandbox whose path leads elsewhere by now is not ours to touch."""
        is_there = self._kernel.sandbox_id(attachment.endpoint.sandbox) == attachment.sandbox_id
        return self._kernel.apply(retirement(owned if is_there else without_sandbox(owned)))

    def _items(self, network: Network, attachment: Attachment) -> State:
        endpoint, mtu = attachment.endpoint, self._reconciler.mtu
        limits = resolve_limits(endpoint, mtu, attachment.bandwidth)
        items = resolve_endpoint(
            network, endpoint, mtu, self._addressing.lost(endpoint), self._addressing.shared(endpoint)
        )
        return (items if attachment.is_guarded else without_guard(items)) | limits

    def _is_current(self, endpoint: Endpoint) -> bool:
        """Tell whether an endpoint is attached and has all its addresses."""
        attachment = self._records.attachments.get(endpoint.key)
        return attachment is not None and attachment.endpoint == endpoint and not self._addressing.lost(endpoint)

    def _result(self, network: Network, endpoint: Endpoint, request: Request) -> Result:
        return Result(
            interface=endpoint.interface,
            mac=endpoint.mac,
            sandbox=endpoint.sandbox,
            mtu=self._reconciler.mtu,
            ips=tuple(
                Assigned(endpoint_address(network, each), gateway_of(network, each)) for each in endpoint.addresses
            ),
            routes=destinations(network, {Family.of(address) for address in endpoint.addresses}),
            dns=request.wishes.dns,
            previous=request.previous,
        )


def _bare_pair(endpoint: Endpoint) -> Link:
    """Return an endpoint's veth pair without its settings."""
    peer = VethPeer(NamespaceRef(endpoint.sandbox), endpoint.interface, endpoint.mac)
    return Link(network_namespace(endpoint.network), host_end(endpoint.key), Veth(peer), None, None)


def _check_masquerade(network: Network, request: Request) -> None:
    """Refuse to attach where a config wants masquerading that the network does not do; it is the network's to say."""
    if request.wishes.masquerade and not network.has_egress:
        raise InvalidValue(f"true, and network {network.name} has no egress", field="ipMasq")


def _raise_first(outcomes: Iterable[Outcome]) -> None:
    """Raise what the kernel said to the first operation that it refused, with the operation."""
    for op, error in ((outcome.op, outcome.error) for outcome in outcomes):
        if error is None:
            continue
        if error.errno == errno.EEXIST and isinstance(op.item, Link) and isinstance(op.item.kind, Veth):
            peer = op.item.kind.peer
            name = f"{peer.name} in {peer.ns}" if peer else op.item.name
            raise AlreadyExists(f"there is an interface {name} already", field="CNI_IFNAME")
        raise KernelError(error.errno, f"{op}: {error.detail}")
