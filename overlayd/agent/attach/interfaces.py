"""The interfaces of attachments in the kernel: creates them, takes them out of use, and compares them."""

import asyncio
import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import structlog

from overlayd.agent.attach.addressing import Addressing
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.records.attachment_records import Attachment, Stray
from overlayd.agent.runtime.kernel_lock import KernelTurn, Together
from overlayd.agent.runtime.signals import Changes
from overlayd.dataplane import ownership, render
from overlayd.dataplane.desired.endpoint import (
    host_end,
    without_guard,
    without_sandbox,
    without_way_out,
)
from overlayd.dataplane.desired.new_endpoint import NewEndpoint
from overlayd.dataplane.diff import retirement
from overlayd.dataplane.items import (
    DeviceSysctls,
    Item,
    Link,
    NamespaceRef,
    NftTable,
    State,
    Veth,
    VethPeer,
    network_namespace,
)
from overlayd.dataplane.plan import Op, Plan, Retire
from overlayd.kernel.port import Kernel, KernelError, Outcome
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import AlreadyExists, OverlayError
from overlayd.model.network import Network

_log = structlog.get_logger(__name__)


class _Leaving(NamedTuple):
    """An attachment that ends, and the kernel items of it that the agent owns and removes."""

    attachment: Attachment
    owned: State


class Interfaces:
    """Plans and applies what attachments have in the kernel.

    `make` and `retire` wait for the kernel lock; the caller of the other methods holds it.
    """

    def __init__(self, turn: KernelTurn, addressing: Addressing, reconciler: Reconciler) -> None:
        self._turn = turn
        self._kernel = turn.kernel
        self._addressing = addressing
        self._reconciler = reconciler
        self._making = Together(turn, turn.taken, self._make)
        self._retiring = Together(turn, turn.taken_to_remove, self._retire)

    async def make(self, network: Network, attachment: Attachment, begin: Callable[[], None]) -> None:
        """Make all kernel items of an attachment, in one batch with other attachments that wait for the kernel lock.

        `begin` is called with the lock held, before anything is made.

        Raises:
            AlreadyExists: the sandbox has an interface of this name.
            KernelError: the kernel refused something, which the message names.
        """

        def begun() -> NewEndpoint:
            begin()
            self._reconciler.changed_aside(network.name)
            return self._new(network, attachment)

        await self._making.do(begun, _raise)

    async def retire(self, network: Network | None, attachment: Attachment, end: Callable[[], None]) -> None:
        """Take an attachment's kernel items out of use, in one batch with others that wait; raise `KernelError`.

        `end` is called when that is done, with the kernel lock still held. `network` None: it is no longer known.
        """

        def begun() -> _Leaving:
            if network is not None:
                owned = frozenset(item for item in self._items(network, attachment) if ownership.owns(item))
            else:
                # What else hangs on it is unknown; but a device that stays would look like one without a record.
                owned = frozenset({_bare_pair(attachment.endpoint)})
            self._reconciler.changed_aside(attachment.endpoint.network)
            return _Leaving(attachment, owned)

        def over(refusal: OverlayError | None) -> None:
            _raise(refusal)
            end()

        await self._retiring.do(begun, over)

    async def remove_stray(self, stray: Stray) -> None:
        """Remove an interface without a record; raise `KernelError`."""
        device = Link(network_namespace(stray.network), stray.device, Veth(), None, None)
        for outcome in await self._turn.call(self._kernel.apply, retirement(frozenset({device}))):
            if outcome.error:
                raise _refusal(outcome)
        await self._turn.call(self._kernel.reap, [device.ns])

    async def differences(self, network: Network, attachment: Attachment, mtu: int | None) -> tuple[str, ...]:
        """Return how an attachment differs from what was made for it, one sentence each; raise `KernelError`.

        `mtu` is what its runtime knows as the MTU of its interface, which plugins after us may have set.
        """
        endpoint = attachment.endpoint
        items = self._items(network, attachment)
        if not attachment.has_way_out:
            items = without_way_out(items)
        inside = await self._turn.call(self._kernel.link, NamespaceRef(endpoint.sandbox), endpoint.interface)
        if strange := strange_mac(endpoint, inside):
            return (strange,)
        missing = await self._turn.call(self._kernel.missing, allowed(items, endpoint, mtu, inside))
        if attachment.ports:
            missing |= await self._reconciler.misdirected(endpoint.network)
        return tuple(sorted(map(described, missing)))

    def _items(self, network: Network, attachment: Attachment) -> State:
        items = self._new(network, attachment).items
        return items if attachment.is_guarded else without_guard(items)

    def _new(self, network: Network, attachment: Attachment) -> NewEndpoint:
        endpoint = attachment.endpoint
        lost, shared = self._addressing.lost(endpoint), self._addressing.shared(endpoint)
        mtu, bandwidth = self._reconciler.mtu, attachment.bandwidth
        return NewEndpoint(network, endpoint, mtu, bandwidth, lost, shared, attachment.is_handed_over)

    def _make(self, endpoints: Sequence[NewEndpoint]) -> list[OverlayError | None]:
        return [_refusal(outcome) if outcome else None for outcome in self._kernel.attach(endpoints)]

    def _retire(self, leaving: Sequence[_Leaving]) -> list[OverlayError | None]:
        """Take endpoints' devices out of use; return what the kernel refused of each."""
        try:
            return self._retire_together(leaving)
        except KernelError as error:
            if len(leaving) == 1:
                return [error]
        # One network is enough for that, and nothing was done: the endpoints of others must not wait for its repair.
        return [refusal for each in leaving for refusal in self._retire([each])]

    def _retire_together(self, leaving: Sequence[_Leaving]) -> list[OverlayError | None]:
        """Do so by one plan. A sandbox whose path leads elsewhere by now is not ours to touch. Raises `KernelError`."""
        refusals: list[OverlayError | None] = [None] * len(leaving)
        deletions: list[tuple[int, Op]] = []
        retirements: list[tuple[int, Op]] = []
        for number, (attachment, owned) in enumerate(leaving):
            try:
                is_there = self._kernel.sandbox_id(attachment.endpoint.sandbox) == attachment.sandbox_id
            except KernelError as error:
                refusals[number] = error
                continue
            for op in retirement(owned if is_there else without_sandbox(owned)):
                (retirements if isinstance(op, Retire) else deletions).append((number, op))
        steps = [*deletions, *sorted(retirements, key=lambda step: step[1].item.ns)]
        outcomes = self._kernel.apply(Plan(tuple(op for _, op in steps)))
        for (number, _), outcome in zip(steps, outcomes, strict=True):
            if outcome.error:
                refusals[number] = refusals[number] or _refusal(outcome)
        return refusals


async def prepare(kernel: Kernel, reports: Changes) -> None:
    """Prepare the kernel's messages once, after the first report: the agent's start does not pay for them."""
    await reports.wait(0)
    try:
        await asyncio.to_thread(kernel.prepare)
    except KernelError as error:  # too few descriptors, perhaps: the first attachment tries again
        _log.warning("cannot prepare for attachments", problem=str(error))


def allowed(items: State, endpoint: Endpoint, known_mtu: int | None, observed: Link | None) -> State:
    """Return an endpoint's items as plugins after us may have left them (CNI SPEC, section "CHECK").

    They may have set sysctls, and the MTU: to `known_mtu`, what the runtime knows as the interface's MTU in bytes, or
    to less than ours without saying so. `known_mtu` may be ours, and not theirs. What they add is theirs, and no item.
    """
    key = (Link, NamespaceRef(endpoint.sandbox), endpoint.interface)
    has = observed.mtu if observed else None

    def mtu(ours: int | None) -> int | None:
        expected = known_mtu or ours
        is_smaller = has and ours and expected and has < min(ours, expected)
        return has if is_smaller else expected

    return frozenset(
        replace(item, mtu=mtu(item.mtu)) if isinstance(item, Link) and item.key == key else item
        for item in items
        if not isinstance(item, DeviceSysctls)
    )


def strange_mac(endpoint: Endpoint, observed: Link | None) -> str | None:
    """Return in one sentence that the interface has another MAC than the network knows, None when it has that one.

    A plugin after us may have set it, but nothing reaches the container (CNI SPEC, section "CHECK": "generally
    unreachable").
    """
    if observed is None or observed.mac == endpoint.mac:
        return None
    return (
        f"{endpoint.interface} has the MAC address {observed.mac}, and the network delivers to {endpoint.mac}:"
        " ask for a MAC by the capability mac, not by a plugin that sets it later"
    )


def described(item: Item) -> str:
    """Return one line about an item that is not in force: the command that would make it."""
    if isinstance(item, NftTable):
        return f"missing or different: table {item.family} {item.name} of nftables in {item.ns}"
    return f"missing or different: {render.added(item)}"


def _bare_pair(endpoint: Endpoint) -> Link:
    """Return an endpoint's veth pair without its settings."""
    peer = VethPeer(NamespaceRef(endpoint.sandbox), endpoint.interface, endpoint.mac)
    return Link(network_namespace(endpoint.network), host_end(endpoint.key), Veth(peer), None, None)


def _raise(refusal: OverlayError | None) -> None:
    if refusal:
        raise refusal


def _refusal(outcome: Outcome) -> OverlayError:
    """Return the kernel's error for an operation that it refused, with the operation."""
    op, error = outcome.op, outcome.error
    if error is None:
        return KernelError(errno.ECANCELED, f"{op}: something that it needs failed")
    if error.errno == errno.EEXIST and isinstance(op.item, Link) and isinstance(op.item.kind, Veth):
        peer = op.item.kind.peer
        name = f"{peer.name} in {peer.ns}" if peer else op.item.name
        return AlreadyExists(f"there is an interface {name} already", field="interface")
    return KernelError(error.errno, f"{op}: {error.detail}")
