"""Executing a plan: consecutive operations on entries of one namespace are one batch, and so are deletions of links."""

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, groupby, repeat
from typing import NamedTuple, assert_never, cast

from overlayd.dataplane.items import (
    HOST,
    Address,
    BridgeEntry,
    DeviceSysctls,
    FdbEntry,
    Item,
    Link,
    Namespace,
    NamespaceRef,
    Neighbour,
    NftTable,
    RateLimit,
    Route,
    SoftwareChecksums,
    SourceGuard,
    Sysctl,
    Veth,
)
from overlayd.dataplane.plan import Add, Change, Delete, Op, Plan, Retire
from overlayd.kernel.apply import carrier, entries, ethtool
from overlayd.kernel.apply.dependants import Failures
from overlayd.kernel.apply.indexes import Indexes
from overlayd.kernel.apply.links import Links, comes_along
from overlayd.kernel.apply.sockets import Sockets, free_devices
from overlayd.kernel.nft import Tables
from overlayd.kernel.port import KernelError, NoNamespace, Outcome
from overlayd.kernel.spaces import namespaces, sysctls
from overlayd.kernel.spaces.namespaces import descriptor

_ABSENCES: Mapping[type[Item], frozenset[int]] = {
    Link: frozenset({errno.ENODEV}),
    SoftwareChecksums: frozenset({errno.ENODEV}),
    Address: frozenset({errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENXIO}),  # ENXIO: a device without IPv6
    Neighbour: frozenset({errno.ENODEV, errno.ENOENT}),
    FdbEntry: frozenset({errno.ENODEV, errno.ENOENT}),
    BridgeEntry: frozenset({errno.ENODEV, errno.ENOENT, errno.EOPNOTSUPP}),  # EOPNOTSUPP: a device without its bridge
    Route: frozenset({errno.ENODEV, errno.ESRCH}),
    # A device always has some qdisc: EINVAL says that it is not ours.
    RateLimit: frozenset({errno.ENODEV, errno.ENOENT, errno.EINVAL}),
    SourceGuard: frozenset({errno.ENODEV, errno.ENOENT, errno.EINVAL}),
}
"""What the kernel answers to the deletion of what is gone. Any other reason, and any other item, is a failure."""

_Errors = Mapping[int, KernelError]
_ExecuteBatch = Callable[["Execution", NamespaceRef, Sequence[Op]], _Errors]
"""Executes operations of one namespace of which none needs another; returns the errors by position."""

_ExecuteOne = Callable[["Execution", Op, Item], None]
"""Executes one operation on an item; raises `KernelError`."""


class _Batch(NamedTuple):
    execute: _ExecuteBatch
    ns: NamespaceRef
    ops: Sequence[Op]
    has_links: bool


_done = cast("Callable[[Iterable[object]], Outcome]", partial(tuple.__new__, Outcome))
"""Makes an outcome of its fields, without a call in Python: there is one for each of up to 100,000 operations."""


class Execution:
    """The execution of one plan."""

    def __init__(self, sockets: Sockets, tables: Tables) -> None:
        self._sockets = sockets
        self._tables = tables
        self._indexes = Indexes(sockets)
        self._links = Links(sockets, self._indexes)
        self._failures = Failures()

    def run(self, plan: Plan) -> tuple[Outcome, ...]:
        """Execute the operations in order and return their outcomes; raise `KernelError` before the first one.

        That is when the kernel does not say which of our namespaces are still those that they were.
        """
        batches = list(_batches(plan))
        self._sockets.put_names_back({batch.ns for batch in batches})
        outcomes: list[Outcome] = []
        links: list[Outcome] = []
        for batch in batches:
            execute, ns, ops = batch.execute, batch.ns, batch.ops
            found = list(self._execute(execute, ns, ops) if self._failures else self._execute_all(execute, ns, ops))
            outcomes += found
            links += found if batch.has_links else ()
        self._sockets.leave_sandbox()
        carrier.settle(links)
        return tuple(outcomes)

    def _execute_all(self, execute: _ExecuteBatch, ns: NamespaceRef, ops: Sequence[Op]) -> Iterable[Outcome]:
        """Return the outcomes of operations while nothing has failed that another operation could need."""
        errors = self._errors(execute, ns, ops)
        if not errors:
            return map(_done, zip(ops, repeat(None), repeat(False)))  # noqa: FBT003 - as many as operations
        return [self._judged(op, errors.get(position)) for position, op in enumerate(ops)]

    def _execute(self, execute: _ExecuteBatch, ns: NamespaceRef, ops: Sequence[Op]) -> Iterator[Outcome]:
        """Yield the outcomes of operations of which none needs another."""
        forbidden = {position for position, op in enumerate(ops) if self._failures.forbid(op)}
        allowed = [op for position, op in enumerate(ops) if position not in forbidden] if forbidden else ops
        errors = self._errors(execute, ns, allowed)
        numbers = iter(range(len(allowed)))
        for position, op in enumerate(ops):
            if position in forbidden:
                self._failures.record(op)
                yield Outcome(op, skipped=True)
            else:
                yield self._judged(op, errors.get(next(numbers)))

    def _errors(self, execute: _ExecuteBatch, ns: NamespaceRef, ops: Sequence[Op]) -> _Errors:
        try:
            return execute(self, ns, ops) if ops else {}
        except KernelError as error:
            return dict.fromkeys(range(len(ops)), error)

    def _judged(self, op: Op, error: KernelError | None) -> Outcome:
        if error is None or (isinstance(op, Delete | Retire) and _is_gone(op.item, error)):
            self._failures.record_success(op)
            return Outcome(op)
        self._failures.record(op)
        return Outcome(op, error)

    def entries(self, ns: NamespaceRef, ops: Sequence[Op]) -> _Errors:
        """Execute operations on entries of one namespace, and simple ones on links."""
        return entries.execute(self._sockets.into(ns), self._indexes[ns], ops)

    def link_deletions(self, ns: NamespaceRef, ops: Sequence[Op]) -> _Errors:
        """Delete links of one namespace."""
        return self._links.delete(ns, [op.item for op in ops if isinstance(op.item, Link)])

    def retirements(self, ns: NamespaceRef, ops: Sequence[Op]) -> _Errors:
        """Take veth pairs of one namespace out of use."""
        return self._links.retire(ns, [op.item for op in ops if isinstance(op, Retire)])

    def one(self, _: NamespaceRef, ops: Sequence[Op]) -> _Errors:
        """Execute one operation on an item of a kind that has no batches."""
        for op in ops:
            _EXECUTORS[type(op.item)](self, op, op.item)
        return {}

    def link(self, op: Op, item: Link) -> None:
        """Create or change one link; what deletes links takes many at a time."""
        match op:
            case Add():
                self._links.add(item)
            case Change():
                self._links.change(item, op.before)
            case Delete() | Retire():
                raise _unsupported(op)
            case _:
                assert_never(op)

    def namespace(self, op: Op, item: Namespace) -> None:
        """Create, change or delete one namespace."""
        match op:
            case Add():
                self._sockets.make(item.ns)
                self._enforce(item)
            case Change():
                self._enforce(item)
            case Delete():
                self._delete_namespace(item.ns)
            case Retire():
                raise _unsupported(op)
            case _:
                assert_never(op)

    def source_guard(self, op: Op, item: SourceGuard) -> None:
        """Add or remove the source filter of a device."""
        entries.guard(self._sockets.into(item.ns), self._indexes[item.ns], op, item)

    def table(self, op: Op, item: NftTable) -> None:
        """Make, replace or delete one table of nftables."""
        match op:
            case Add() | Change():
                self._tables.put(item)
            case Delete():
                self._tables.delete(item)
            case Retire():
                raise _unsupported(op)
            case _:
                assert_never(op)

    def device_sysctls(self, op: Op, item: DeviceSysctls) -> None:
        """Set the sysctls of one device."""
        match op:
            case Add() | Change():
                with descriptor(item.ns) as fd:
                    sysctls.enforce_device(fd, item)
            case Delete():
                pass  # they go with the device
            case Retire():
                raise _unsupported(op)
            case _:
                assert_never(op)

    def offload(self, op: Op, item: SoftwareChecksums) -> None:
        """Let the kernel make the checksums of packets of one device, or leave them to the device again."""
        match op:
            case Add() | Change():
                offloaded = False
            case Delete():
                offloaded = True
            case Retire():
                raise _unsupported(op)
            case _:
                assert_never(op)
        with descriptor(item.ns) as fd:
            ethtool.set_offloaded(fd, item.dev, offloaded=offloaded)

    def sysctl(self, op: Op, item: Sysctl) -> None:
        """Set one sysctl."""
        match op:
            case Add() | Change():
                with descriptor(item.ns) as fd:
                    sysctls.put(fd, item.name, item.value)
            case Delete():
                pass  # one that we no longer need keeps its value: others may count on it
            case Retire():
                raise _unsupported(op)
            case _:
                assert_never(op)

    @staticmethod
    def _enforce(item: Namespace) -> None:
        with descriptor(item.ns) as fd:
            sysctls.enforce(fd, item.sysctls)

    def _delete_namespace(self, ns: NamespaceRef) -> None:
        self._indexes.pop(ns, None)
        if namespaces.identity(ns):
            # The kernel takes a namespace apart some time later; VNIs and names would be taken until then.
            free_devices(self._sockets.into(ns))
            self._sockets.forget(ns)
        namespaces.delete(ns)


def _is_gone(item: Item, error: KernelError) -> bool:
    """Return whether a deletion failed only because there was nothing to delete."""
    return isinstance(error, NoNamespace) or error.errno in _ABSENCES.get(type(item), frozenset())


def _unsupported(op: Op) -> KernelError:
    return KernelError(errno.EOPNOTSUPP, f"no such operation on an item of this kind: {op}")


def _batches(plan: Plan) -> Iterator[_Batch]:
    for (execute, ns), runs in groupby(_alike(plan.ops), lambda ops: _batch_of(ops[0])):
        if execute is Execution.one:
            yield from (_Batch(execute, ns, [op], isinstance(op.item, Link)) for ops in runs for op in ops)
        else:
            several = list(runs)
            has_links = any(isinstance(ops[0].item, Link) for ops in several)
            yield _Batch(execute, ns, several[0] if len(several) == 1 else list(chain(*several)), has_links)


def _alike(ops: Sequence[Op]) -> Iterator[Sequence[Op]]:
    """Yield consecutive operations of one kind on one kind of entry in one namespace; those on links one by one."""
    items = [op.item for op in ops]
    kinds = zip(map(type, ops), map(type, items), [item.ns for item in items], strict=True)
    start = 0
    for (_, kind, _), run in groupby(kinds):
        end = start + len(list(run))
        if kind is Link:
            yield from (ops[at : at + 1] for at in range(start, end))
        else:
            yield ops[start:end]
        start = end


def _batch_of(op: Op) -> tuple[_ExecuteBatch, NamespaceRef]:
    item = op.item
    if type(item) in entries.KINDS:
        return Execution.entries, item.ns
    if isinstance(op, Retire):
        return Execution.retirements, item.ns
    if isinstance(item, Link):
        if isinstance(op, Delete):
            return Execution.link_deletions, item.ns
        if is_setting(op):
            return Execution.entries, item.ns
    return Execution.one, item.ns


def is_setting(op: Op) -> bool:
    """Return whether an operation on a link is one simple message, which may share a batch with entries."""
    match op:
        case Add(item=Link() as link):
            return comes_along(link) and link.ns != HOST
        case Change(item=Link(kind=Veth()) as link, before=Link() as before):
            return link.up != before.up and replace(before, up=link.up, alias=link.alias) == link
        case _:
            return False


_EXECUTORS: dict[type[Item], _ExecuteOne] = {
    Namespace: cast("_ExecuteOne", Execution.namespace),
    Link: cast("_ExecuteOne", Execution.link),
    SourceGuard: cast("_ExecuteOne", Execution.source_guard),
    NftTable: cast("_ExecuteOne", Execution.table),
    DeviceSysctls: cast("_ExecuteOne", Execution.device_sysctls),
    SoftwareChecksums: cast("_ExecuteOne", Execution.offload),
    Sysctl: cast("_ExecuteOne", Execution.sysctl),
}
KINDS = entries.KINDS | _EXECUTORS.keys()
"""Every kind of item, as each has an executor."""
