"""Groups transactions that wait for the store at the same time into one."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from controller.store.port import (
    TRANSACTION_MAX,
    Abandoned,
    Committed,
    Compare,
    Conflict,
    DeleteKey,
    LeaseLost,
    PutKey,
    Store,
    Transaction,
    Unmodified,
)
from overlayd.model.errors import Unavailable

_AT_ONCE = 2
"""How many groups are on their way to the store. More would be smaller ones, each of which costs it a write to disk."""

_BYTES_MAX = 256 * 1024
"""The most bytes of values in a group; etcd takes 1.5 MiB in a request (--max-request-bytes)."""

Outcome = Committed | Conflict


@dataclass(frozen=True, slots=True)
class Waiting:
    """A transaction on its way to the store, and the future that gets its outcome."""

    transaction: Transaction
    is_wanted: Callable[[], bool]
    outcome: "asyncio.Future[Outcome]"

    def settle(self, outcome: Outcome | BaseException) -> None:
        """Give the outcome to the waiting task, unless it was cancelled."""
        if self.outcome.done():
            return
        if isinstance(outcome, BaseException):
            self.outcome.set_exception(outcome)
        else:
            self.outcome.set_result(outcome)


@dataclass(slots=True)
class _About:
    """The subjects of compares: keys, and prefixes."""

    keys: set[str] = field(default_factory=set)
    prefixes: tuple[str, ...] = ()

    def add(self, compares: Iterable[Compare | Unmodified]) -> None:
        for each in compares:
            if isinstance(each, Compare):
                self.keys.add(each.key)
            else:
                self.prefixes += (each.prefix,)

    def any_of(self, written: Iterable[str]) -> bool:
        """Return whether one of the keys is a subject."""
        if self.prefixes:
            return any(key in self.keys or key.startswith(self.prefixes) for key in written)
        return not self.keys.isdisjoint(written)


@dataclass(slots=True)
class Group:
    """Transactions that have nothing to do with each other.

    If every compare of all of them holds, they could have happened one after another in any order. A write that several
    have alike and none of them compares, such as that of the intent's revision, is made once.
    """

    members: list[Waiting] = field(default_factory=list)
    compares: dict[Compare | Unmodified, None] = field(default_factory=dict)
    ops: dict[str, PutKey | DeleteKey] = field(default_factory=dict)
    about: _About = field(default_factory=_About)
    size: int = 0

    def admits(self, transaction: Transaction) -> bool:
        """Return whether a transaction can join the group. An empty group admits any."""
        if not self.members:
            return True
        return (
            max(len(self.ops) + len(transaction.ops), len(self.compares) + len(transaction.compares)) <= TRANSACTION_MAX
            and self.size + _size(transaction) <= _BYTES_MAX
            and not _about(transaction).any_of(self.ops)
            and not self.about.any_of(op.key for op in transaction.ops)
            and all(self.ops.get(op.key, op) == op for op in transaction.ops)
        )

    def add(self, waiting: Waiting) -> None:
        """Add a transaction to the group."""
        self.members.append(waiting)
        self.compares.update(dict.fromkeys(waiting.transaction.compares))
        self.about.add(waiting.transaction.compares)
        self.ops.update((op.key, op) for op in waiting.transaction.ops)
        self.size += _size(waiting.transaction)

    def is_wanted(self) -> bool:
        """Return whether every member of the group is still wanted."""
        return all(waiting.is_wanted() for waiting in self.members)

    @property
    def transaction(self) -> Transaction:
        """The members as one transaction."""
        return Transaction(tuple(self.compares), tuple(self.ops.values()))


class Grouping:
    """Sends one controller's transactions to the store. A single one is sent at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[Waiting] = deque()
        self._running: dict[asyncio.Task[None], Group] = {}
        self._most = TRANSACTION_MAX

    async def commit(self, transaction: Transaction, is_wanted: Callable[[], bool]) -> Outcome:
        """Commit a transaction, as the store does, if it is still wanted when it comes to that.

        Raises `Unavailable` when it is not, and what the store raises.
        """
        waiting = Waiting(transaction, is_wanted, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._send()
        return await waiting.outcome

    def _send(self) -> None:
        while self._waiting and len(self._running) < _AT_ONCE:
            group = self._next()
            if group.members:
                self._start(group)

    def _start(self, group: Group) -> None:
        task = asyncio.create_task(self._run(group), name="commit")
        self._running[task] = group
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        failure = asyncio.CancelledError() if task.cancelled() else task.exception()
        for waiting in self._running.pop(task).members:
            if failure:
                waiting.settle(failure)
        self._send()

    def _next(self) -> Group:
        """Take the first waiting transaction, and the following ones that can join its group."""
        group, left = Group(), deque[Waiting]()
        while self._waiting and len(group.members) < self._most:
            waiting = self._waiting.popleft()
            if waiting.outcome.done():
                continue
            if not waiting.is_wanted():
                # He may have asked another controller since, and changed his mind again: this one was frozen for long.
                waiting.settle(Unavailable("the client has disconnected"))
            elif group.admits(waiting.transaction):
                group.add(waiting)
            else:
                left.append(waiting)
        self._waiting.extendleft(reversed(left))
        return group

    async def _run(self, group: Group) -> None:
        is_alone = len(group.members) == 1
        try:
            outcome = await self._store.commit(group.transaction, group.is_wanted)
        except LeaseLost:
            if is_alone:
                raise
            self._divide(group)
        except Abandoned:
            self._waiting.extendleft(reversed(group.members))
        else:
            if isinstance(outcome, Conflict) and not is_alone:
                self._divide(group)
                return
            self._most = min(TRANSACTION_MAX, 2 * self._most)
            for waiting in group.members:
                waiting.settle(outcome)

    def _divide(self, group: Group) -> None:
        """Queue the members again in smaller groups, until the transaction with the conflict is alone."""
        self._most = max(1, len(group.members) // 2)
        self._waiting.extendleft(reversed(group.members))


def _about(transaction: Transaction) -> _About:
    about = _About()
    about.add(transaction.compares)
    return about


def _size(transaction: Transaction) -> int:
    return sum(len(op.value) for op in transaction.ops if isinstance(op, PutKey))
