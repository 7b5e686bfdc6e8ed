"""The interfaces of attachments in the kernel: creates them, takes them out of use, and compares them."""

import asyncio
import errno
from collections.abc import Iterable
from dataclasses import replace

import structlog

from overlayd.agent.attach.addressing import Addressing
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.agent.records.attachment_records import Attachment, Stray
from overlayd.agent.runtime.kernel_lock import KernelTurn
from overlayd.agent.runtime.signals import Changes
from overlayd.dataplane import ownership, render
from overlayd.dataplane.desired.endpoint import (
    handed_over,
    handed_pair,
    host_end,
    resolve_endpoint,
    resolve_limits,
    without_guard,
    without_sandbox,
    without_way_out,
)
from overlayd.dataplane.diff import diff, retirement
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
from overlayd.kernel.port import Kernel, KernelError, Outcome
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import AlreadyExists
from overlayd.model.network import Network

_log = structlog.get_logger(__name__)


class Interfaces:
    """Plans and applies what one attachment has in the kernel. The caller of its methods holds the kernel lock."""

    def __init__(self, turn: KernelTurn, addressing: Addressing, reconciler: Reconciler) -> None:
        self._turn = turn
        self._kernel = turn.kernel
        self._addressing = addressing
        self._reconciler = reconciler

    async def make(self, network: Network, attachment: Attachment) -> None:
        """Make all that an attachment has.

        Raises:
            AlreadyExists: the sandbox has an interface of this name.
            KernelError: the kernel refused something, which the message names.
        """
        items = self._items(network, attachment)
        if attachment.is_handed_over:
            items = handed_pair(attachment.endpoint, items)
        plan = diff(items, frozenset())
        self._reconciler.changed_aside(network.name)
        _raise_first(await self._turn.call(self._kernel.apply, plan))

    async def retire(self, network: Network | None, attachment: Attachment) -> None:
        """Take what an attachment has out of use; raise `KernelError`. `network` None: it is no longer known."""
        if network is not None:
            owned = frozenset(item for item in self._items(network, attachment) if ownership.owns(item))
        else:
            # What else hangs on the device is unknown; but a device that stays would look like one without a record.
            owned = frozenset({_bare_pair(attachment.endpoint)})
        self._reconciler.changed_aside(attachment.endpoint.network)
        _raise_first(await self._turn.call(self._take_out_of_use, attachment, owned))

    async def remove_stray(self, stray: Stray) -> None:
        """Remove an interface without a record; raise `KernelError`."""
        device = Link(network_namespace(stray.network), stray.device, Veth(), None, None)
        _raise_first(await self._turn.call(self._kernel.apply, retirement(frozenset({device}))))
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
        endpoint, mtu = attachment.endpoint, self._reconciler.mtu
        limits = resolve_limits(endpoint, mtu, attachment.bandwidth)
        lost, shared = self._addressing.lost(endpoint), self._addressing.shared(endpoint)
        items = resolve_endpoint(network, endpoint, mtu, lost, shared)
        if attachment.is_handed_over:
            return handed_over(network, endpoint, items, mtu) | without_sandbox(limits)
        return (items if attachment.is_guarded else without_guard(items)) | limits

    def _take_out_of_use(self, attachment: Attachment, owned: State) -> tuple[Outcome, ...]:
        """Take the endpoint's devices out of use. A sandbox whose path leads elsewhere by now is not ours to touch."""
        is_there = self._kernel.sandbox_id(attachment.endpoint.sandbox) == attachment.sandbox_id
        return self._kernel.apply(retirement(owned if is_there else without_sandbox(owned)))


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


def _raise_first(outcomes: Iterable[Outcome]) -> None:
    """Raise the kernel's error for the first operation that it refused, with the operation."""
    for op, error in ((outcome.op, outcome.error) for outcome in outcomes):
        if error is None:
            continue
        if error.errno == errno.EEXIST and isinstance(op.item, Link) and isinstance(op.item.kind, Veth):
            peer = op.item.kind.peer
            name = f"{peer.name} in {peer.ns}" if peer else op.item.name
            raise AlreadyExists(f"there is an interface {name} already", field="interface")
        raise KernelError(error.errno, f"{op}: {error.detail}")
