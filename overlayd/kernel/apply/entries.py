"""Executes operations on entries: addresses, neighbours, FDB entries and routes."""

import errno
from collections.abc import Iterator, Mapping, Sequence
from typing import assert_never, cast

from overlayd.dataplane.items import Address, BridgeEntry, FdbEntry, Link, Neighbour, RateLimit, Route, SourceGuard
from overlayd.dataplane.plan import Add, Change, Delete, Op, Retire
from overlayd.kernel.netlink import entry_messages, entry_runs, requests, traffic_control
from overlayd.kernel.netlink.decoding import neighbour_reading
from overlayd.kernel.netlink.entry_messages import Indexes, Verb
from overlayd.kernel.netlink.framing import MessageRun
from overlayd.kernel.netlink.transport import CHUNK, Netlink
from overlayd.kernel.packets import source_guard
from overlayd.kernel.port import KernelError
from overlayd.model.ids import InterfaceName

Entry = Address | BridgeEntry | FdbEntry | Neighbour | RateLimit | Route
"""What hangs on a link; an unreachable route on none."""

KINDS = entry_messages.KINDS - {Link}
"""The kinds of item that are executed here."""

_FEW = 100
"""Operations up to this number are not worth a thread that sends them, and columns."""

_VERBS = {Add: Verb.ADD, Change: Verb.REPLACE, Delete: Verb.DELETE}


def execute(netlink: Netlink, indexes: Indexes, ops: Sequence[Op]) -> Mapping[int, KernelError]:
    """Send operations of one namespace as one batch; return the errors by the position of their operation."""
    sending = _Sending(indexes, ops)
    refusals = netlink.stream(sending.chunks()) if len(ops) > _FEW else netlink.batch(sending.messages())
    errors = sending.errors
    for number, refusal in refusals.items():
        position = sending.positions[number]
        if unsolved := still_refused(netlink, indexes, ops[position], refusal):
            errors[position] = unsolved
    return errors


class _Sending:
    """Operations on their way to the kernel.

    `errors` are those of operations that are not sent, because there is no such device; `positions` those of the others
    among all. Operations are looked at in chunks, while they are in the processor's cache.
    """

    def __init__(self, indexes: Indexes, ops: Sequence[Op]) -> None:
        self.errors: dict[int, KernelError] = {}
        self.positions: list[int] = []
        self._indexes = indexes
        self._ops = ops
        # Asked for before anything is sent: messages are made in another thread, which must not use the socket.
        self._missing = _missing_devices(indexes, ops)

    def chunks(self) -> Iterator[list[MessageRun]]:
        """Yield the messages for many operations."""
        for start in range(0, len(self._ops), CHUNK):
            if chunk := self._sent(start):
                verbs = [_VERBS[kind] for kind in map(type, chunk)]
                yield list(entry_runs.runs(verbs, [op.item for op in chunk], self._indexes))

    def messages(self) -> list[bytes]:
        """Return the messages for a few operations."""
        return messages(self._indexes, self._sent(0))

    def _sent(self, start: int) -> Sequence[Op]:
        """Return those operations of the chunk that begins here whose devices are there."""
        chunk = self._ops[start : start + CHUNK]
        missing = self._missing
        if not missing:
            self.positions += range(start, start + len(chunk))
            return chunk
        lacking = [missing.get(_device(op)) for op in chunk]
        self.errors.update((start + at, error) for at, error in enumerate(lacking) if error)
        present = [at for at, error in enumerate(lacking) if not error]
        self.positions += (start + at for at in present)
        return [chunk[at] for at in present]


def _device(op: Op) -> InterfaceName | None:
    """Return the device whose index is needed; a link itself goes by its name."""
    return None if isinstance(op.item, Link) else cast("Entry", op.item).dev


def _missing_devices(indexes: Indexes, ops: Sequence[Op]) -> Mapping[InterfaceName | None, KernelError]:
    """Look up the indexes of devices; return an error for each device that is missing."""
    missing: dict[InterfaceName | None, KernelError] = {}
    for dev in {cast("Entry", op.item).dev for op in ops if type(op.item) is not Link} - {None}:
        try:
            indexes[cast("InterfaceName", dev)]
        except KernelError as error:
            missing[dev] = error
    return missing


def messages(indexes: Indexes, ops: Sequence[Op]) -> list[bytes]:
    """Return one message for each operation; raise `KernelError` (ENODEV) when a device is missing."""
    return entry_messages.entries([(_VERBS[type(op)], op.item) for op in ops], indexes)


def still_refused(netlink: Netlink, indexes: Indexes, op: Op, error: KernelError) -> KernelError | None:
    """Replace a neighbour that the kernel itself has resolved by ours; return the remaining error.

    Traffic to a neighbour that is not there makes the kernel enter it, unresolved or even resolved, and the entry may
    outlive the traffic by hours, or be gone a moment later. One that was set by a program is permanent, and stays.
    """
    if error.errno != errno.EEXIST or not isinstance(op, Add) or not isinstance(op.item, Neighbour):
        return error
    try:
        if _is_permanent(netlink, indexes, op.item):
            return error
        netlink.execute(entry_messages.entry(Verb.REPLACE, op.item, indexes))
    except KernelError as other:
        return other
    return None


def _is_permanent(netlink: Netlink, indexes: Indexes, item: Neighbour) -> bool:
    """Return whether a neighbour was set by a program; false for one that no longer exists. Raises `KernelError`."""
    try:
        return neighbour_reading.is_permanent(netlink.get(requests.neighbour(item.address, indexes[item.dev])))
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        return False


def guard_made(index: int, item: SourceGuard) -> list[bytes]:
    """Return the messages that put a filter at a device which has none."""
    return [traffic_control.hook_made(index), traffic_control.program_put(index, source_guard.code(item))]


def guard(netlink: Netlink, indexes: Indexes, op: Op, item: SourceGuard) -> None:
    """Add, replace or remove the filter of a device; raise the kernel's error."""
    index = indexes[item.dev]
    match op:
        case Add():
            netlink.execute(traffic_control.hook_made(index))
        case Change():
            try:
                netlink.execute(traffic_control.hook_made(index))
            except KernelError as error:
                if error.errno != errno.EEXIST:
                    raise
        case Delete():
            netlink.execute(traffic_control.hook_deleted(index))
            return
        case Retire():
            raise KernelError(errno.EOPNOTSUPP, f"{item.dev}: a filter is deleted and not retired")
        case _:
            assert_never(op)
    netlink.execute(traffic_control.program_put(index, source_guard.code(item)))
