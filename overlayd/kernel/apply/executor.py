"""Executing a plan: consecutive operations on entries of one namespace are one batch, and so are deletions of links."""

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

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
from overlayd.kernel.apply import carrier, entries, offload
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
_Execute = Callable[["Application", NamespaceRef, Sequence[Op]], _Errors]


class Application:
    """The execution of one plan."""

    def __init__(self, sockets: Sockets, tables: Tables) -> None:
        self._sockets = sockets
        self._tables = tables
        self._indexes = Indexes(sockets)
        self._links = Links(sockets, self._indexes)
        self._failures = Failures()

    def run(self, plan: Plan) -> tuple[Outcome, ...]:
        """Execute the operations in order and return their outcomes."""
        outcomes: list[Outcome] = []
        for execute, ns, ops in _batches(plan):
            outcomes += self._execute(execute, ns, ops) if self._failures else self._execute_all(execute, ns, ops)
        self._sockets.leave_sandbox()
        carrier.settle(outcomes)
        return tuple(outcomes)

    def _execute_all(self, execute: _Execute, ns: NamespaceRef, ops: Sequence[Op]) -> Iterable[Outcome]:
        """Return the outcomes of operations, as long as nothing has failed that could be needed."""
        errors = self._errors(execute, ns, ops)
        if not errors:
            return map(Outcome, ops)
        return [self._judged(op, errors.get(position)) for position, op in enumerate(ops)]

    def _execute(self, execute: _Execute, ns: NamespaceRef, ops: Sequence[Op]) -> Iterator[Outcome]:
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

    def _errors(self, execute: _Execute, ns: NamespaceRef, ops: Sequence[Op]) -> _Errors:
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
        """Execute operations on entries of one namespace, and on links where they are as simple."""
        return entries.execute(self._sockets.into(ns), self._indexes[ns], ops)

    def link_deletions(self, ns: NamespaceRef, ops: Sequence[Op]) -> _Errors:
        """Delete links of one namespace."""
        return self._links.delete(ns, [op.item for op in ops if isinstance(op.item, Link)])

    def retirements(self, ns: NamespaceRef, ops: Sequence[Op]) -> _Errors:
        """Take veth pairs of one namespace out of use."""
        return self._links.retire(ns, [op.item for op in ops if isinstance(op, Retire)])

    def link(self, _: NamespaceRef, ops: Sequence[Op]) -> _Errors:
        """Create or change one link."""
        match ops:
            case [Add(item=Link() as link)]:
                self._links.add(link)
            case [Change(item=Link() as link, before=Link() as before)]:
                self._links.change(link, before)
        return {}

    def namespace(self, ns: NamespaceRef, ops: Sequence[Op]) -> _Errors:
        """Create, change or delete one namespace."""
        match ops:
            case [Delete()]:
                self._delete_namespace(ns)
            case [Add(item=Namespace(sysctls=values))]:
                self._sockets.make(ns)
                self._enforce(ns, values)
            case [Change(item=Namespace(sysctls=values))]:
                self._enforce(ns, values)
        return {}

    def source_guard(self, ns: NamespaceRef, ops: Sequence[Op]) -> _Errors:
        """Put a filter at a device, or take it away."""
        match ops:
            case [op] if isinstance(op.item, SourceGuard):
                entries.guard(self._sockets.into(ns), self._indexes[ns], op, op.item)
        return {}

    def table(self, _: NamespaceRef, ops: Sequence[Op]) -> _Errors:
        """Make, replace or delete one table of nftables."""
        match ops:
            case [Delete(item=NftTable() as table)]:
                self._tables.delete(table)
            case [Add(item=NftTable() as table) | Change(item=NftTable() as table)]:
                self._tables.put(table)
        return {}

    def device_sysctls(self, ns: NamespaceRef, ops: Sequence[Op]) -> _Errors:
        """Set the sysctls of one device. There is no removing them: they go with the device."""
        match ops:
            case [Add(item=DeviceSysctls() as item)] | [Change(item=DeviceSysctls() as item)]:
                with descriptor(ns) as fd:
                    sysctls.enforce_device(fd, item)
        return {}

    def offload(self, ns: NamespaceRef, ops: Sequence[Op]) -> _Errors:
        """Take the checksums from one device, or give them back to it."""
        match ops:
            case [Add(item=SoftwareChecksums(dev=dev)) | Change(item=SoftwareChecksums(dev=dev))]:
                with descriptor(ns) as fd:
                    offload.set_offloaded(fd, dev, offloaded=False)
            case [Delete(item=SoftwareChecksums(dev=dev))]:
                with descriptor(ns) as fd:
                    offload.set_offloaded(fd, dev, offloaded=True)
        return {}

    def sysctl(self, ns: NamespaceRef, ops: Sequence[Op]) -> _Errors:
        """Set one sysctl; one that nobody needs any more stays as it is."""
        match ops:
            case [Add(item=Sysctl() as wanted) | Change(item=Sysctl() as wanted)]:
                with descriptor(ns) as fd:
                    sysctls.put(fd, wanted.name, wanted.value)
        return {}

    @staticmethod
    def _enforce(ns: NamespaceRef, values: sysctls.Values) -> None:
        with descriptor(ns) as fd:
            sysctls.enforce(fd, values)

    def _delete_namespace(self, ns: NamespaceRef) -> None:
        self._indexes.pop(ns, None)
        if namespaces.identity(ns):
            # The kernel takes a namespace apart later, at its leisure; VNIs and names would be taken until then.
            free_devices(self._sockets.into(ns))
            self._sockets.forget(ns)
        namespaces.delete(ns)


def _is_gone(item: Item, error: KernelError) -> bool:
    """Tell whether a deletion failed only because there was nothing to delete."""
    return isinstance(error, NoNamespace) or error.errno in _ABSENCES.get(type(item), frozenset())


def _batches(plan: Plan) -> Iterator[tuple[_Execute, NamespaceRef, Sequence[Op]]]:
    for (execute, ns), run in groupby(plan, _batch_of):
        if execute in _BATCHED:
            yield execute, ns, list(run)
        else:
            yield from ((execute, ns, [op]) for op in run)


def _batch_of(op: Op) -> tuple[_Execute, NamespaceRef]:
    if isinstance(op, Retire):
        return Application.retirements, op.item.ns
    if _is_setting(op):
        return Application.entries, op.item.ns
    kind = type(op.item)
    if kind is Link and isinstance(op, Delete):
        return Application.link_deletions, op.item.ns
    return _EXECUTORS.get(kind, Application.entries), op.item.ns


def _is_setting(op: Op) -> bool:
    """Tell whether an operation on a link is one message that needs no care, so that entries may go with it."""
    match op:
        case Add(item=Link() as link):
            return comes_along(link) and link.ns != HOST
        case Change(item=Link(kind=Veth()) as link, before=Link() as before):
            return link.up != before.up and replace(before, up=link.up, alias=link.alias) == link
        case _:
            return False


_EXECUTORS: dict[type[Item], _Execute] = {
    Namespace: Application.namespace,
    Link: Application.link,
    SourceGuard: Application.source_guard,
    NftTable: Application.table,
    DeviceSysctls: Application.device_sysctls,
    SoftwareChecksums: Application.offload,
    Sysctl: Application.sysctl,
}
_BATCHED = {Application.entries, Application.link_deletions, Application.retirements}
