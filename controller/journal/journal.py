"""How services change the intent: a draft from the mirror, committed by compare-and-swap, redrafted on conflict."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Generic, Self, TypeVar

from controller.clock import Clock
from controller.journal.actor import Actor, Requester
from controller.journal.change_record import Note, Recorder
from controller.journal.grouping import Grouping
from controller.journal.transaction_meter import TransactionMeter
from controller.journal.transaction_part import TransactionPart
from controller.state import keys
from controller.state.mirror import Mirror
from controller.state.store_time import StoreTime
from controller.store.port import Committed, Compare, Conflict, DeleteKey, PutKey, Store, Transaction, Unmodified
from overlayd.model.errors import OverlayError, Stale, Unavailable
from overlayd.model.ids import Revision

T = TypeVar("T")

_FAMILY_PARTS = 5
"""Of a key such as /overlayd/v1/blocks/blue/10.32.0.0/26: up to the network's name."""

_ATTEMPTS = 64
"""How often a draft is committed before the caller has to come again. Each attempt knows what the one before met."""

_AT_ONCE_ATTEMPTS = 4
"""How many of them follow each other at once."""

_PAUSE_SHORTEST, _PAUSE_LONGEST = 0.005, 0.1
"""Seconds at most before one of the others; the time doubles from the first to the second."""


@dataclass(frozen=True, slots=True)
class TransactionDraft(Generic[T]):
    """A transaction that changes the intent so that `result` is true. Without operations it is true already.

    `noted` is what the history records in addition to the changed records.
    """

    result: T
    compares: tuple[Compare | Unmodified, ...] = ()
    ops: tuple[PutKey | DeleteKey, ...] = ()
    noted: tuple[Note, ...] = ()

    @classmethod
    def of(cls, part: TransactionPart, result: T) -> Self:
        """Return a draft that consists of one part."""
        return cls(result, part.compares, part.ops)


@dataclass(frozen=True, slots=True)
class Written(Generic[T]):
    """A result that holds as of an intent revision."""

    result: T
    revision: Revision


class Journal:
    """Writes drafts of this controller, many at a time, and remembers which keys those under way will take.

    Every transaction includes its entry of the history, under the name of the actor.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what it takes to write
        self,
        store: Store,
        mirror: Mirror,
        clock: Clock,
        time: StoreTime,
        recorder: Recorder,
        chance: Random,
    ) -> None:
        self._grouping = Grouping(store)
        self._mirror = mirror
        self._clock = clock
        self._time = time
        self._recorder = recorder
        self._chance = chance
        self._underway: defaultdict[str, dict[str, asyncio.Future[None]]] = defaultdict(dict)
        self.commits = TransactionMeter()

    def is_taken(self, key: str) -> bool:
        """Return whether a key exists or is about to; a caller that is free to choose takes another one."""
        return self._is_underway(key) or self._mirror.mod_revision(key) > 0

    def underway(self, prefix: str) -> list[str]:
        """Return the rest of each key with a prefix, such as that of a network's blocks, that is being created now."""
        return [key.removeprefix(prefix) for key in self._underway.get(_family(prefix), ()) if key.startswith(prefix)]

    def unchanged(self, key: str) -> Compare:
        """Return the compare that holds while a key is as the mirror shows it."""
        return Compare(key, self._mirror.mod_revision(key))

    def expect(self, key: str, seen: Revision | None) -> None:
        """Raise `Stale` unless `seen` is the modification revision of a key; None means any revision."""
        if seen is not None and seen != self._mirror.mod_revision(key):
            raise Stale("it has changed since it was read; read it again")

    async def reach(self, seen: Revision | None) -> None:
        """Return when the mirror has the changes up to a revision that a client has seen at another controller."""
        if seen is not None and seen > self._mirror.revision:
            await self._mirror.reached(min(seen, await self._mirror.stored_intent_revision()))

    async def write(self, by: Requester, make: Callable[[], TransactionDraft[T]]) -> Written[T]:
        """Write the draft for a requester, and return when the mirror shows it.

        `make` reads the mirror without waiting, and is called again after a conflict, when the mirror has caught up.
        What it raises passes through, and a draft without operations is taken for done, if that is still so when the
        mirror shows what the store holds now. Raises `Unavailable` when others keep changing what the draft is about,
        or when the requester has gone.
        """
        return await self._write(
            by, make, lambda draft: (PutKey(keys.INTENT, keys.EMPTY), self._entry(by.actor, draft))
        )

    async def write_aside(self, by: Requester, make: Callable[[], TransactionDraft[T]]) -> Written[T]:
        """Write a draft that changes nothing of the intent, so that no feed carries it. Otherwise as `write`."""
        return await self._write(by, make, lambda draft: (self._entry(by.actor, draft),))

    async def write_unnoted(self, by: Requester, make: Callable[[], TransactionDraft[T]]) -> Written[T]:
        """Write a draft that is so little of the intent that the history leaves it out. Otherwise as `write`."""
        return await self._write(by, make, lambda _: ())

    async def _write(
        self,
        by: Requester,
        make: Callable[[], TransactionDraft[T]],
        more: Callable[[TransactionDraft[T]], tuple[PutKey, ...]],
    ) -> Written[T]:
        for attempt in range(_ATTEMPTS):
            if attempt >= _AT_ONCE_ATTEMPTS:
                longest = min(_PAUSE_SHORTEST * 2 ** (attempt - _AT_ONCE_ATTEMPTS), _PAUSE_LONGEST)
                await self._clock.sleep(self._chance.uniform(0.0, longest))
            draft = await self._undisturbed(make)
            if not draft.ops:
                return Written(draft.result, self._mirror.intent_revision)
            compares = (*draft.compares, self.unchanged(keys.LINEAGE))
            transaction = Transaction(tuple(dict.fromkeys(compares)), (*draft.ops, *more(draft)))
            outcome = await self._commit(transaction, by.is_waiting)
            if isinstance(outcome, Committed):
                return Written(draft.result, outcome.revision)
        raise Unavailable("others keep changing the same objects; try again")

    async def _undisturbed(self, make: Callable[[], TransactionDraft[T]]) -> TransactionDraft[T]:
        """Return a draft that compares no key which this controller is about to write: it would meet a conflict.

        So all that is about the blocks of one host, and compares its holdings, goes to the store one after another.
        """
        while True:
            draft = await self._made(make)
            compared = [each.key for each in draft.compares if isinstance(each, Compare)]
            if not any(map(self._is_underway, compared)):
                return draft
            for key in compared:
                while under_way := self._underway.get(_family(key), {}).get(key):
                    await asyncio.wait([under_way])

    async def _made(self, make: Callable[[], TransactionDraft[T]]) -> TransactionDraft[T]:
        """Return a draft that changes something, or one that does not though the mirror shows what the store holds."""
        try:
            draft = make()
        except OverlayError:
            # Another controller may have made what is missing here, or removed what is in the way.
            await self._mirror.verify()
            return make()
        if draft.ops:
            return draft
        # Another controller may have undone it.
        await self._mirror.verify()
        return make()

    def _entry(self, by: Actor, draft: TransactionDraft[T]) -> PutKey:
        return self._recorder.entry(self._time.stamp(), by, self._mirror.form, draft.ops, draft.noted)

    async def _commit(self, transaction: Transaction, is_waiting: Callable[[], bool]) -> Committed | Conflict:
        taken = [op.key for op in transaction.ops if isinstance(op, PutKey) and not self._is_underway(op.key)]
        ended = asyncio.get_running_loop().create_future()
        for key in taken:
            self._underway[_family(key)][key] = ended
        try:
            with self.commits.timing() as timed:
                outcome = await self._grouping.commit(transaction, is_waiting)
                timed.outcome = "committed" if isinstance(outcome, Committed) else "conflict"
            if isinstance(outcome, Conflict):
                await self._mirror.overtaken(transaction.compares, outcome.revision)
            else:
                await self._mirror.reached(outcome.revision)
        finally:
            for key in taken:
                self._forget(key)
            ended.set_result(None)
        return outcome

    def _is_underway(self, key: str) -> bool:
        return key in self._underway.get(_family(key), ())

    def _forget(self, key: str) -> None:
        family = _family(key)
        del self._underway[family][key]
        if not self._underway[family]:
            del self._underway[family]


def _family(key: str) -> str:
    """Return the first parts of a key: those of one kind, and in one network, are looked at together."""
    return "/".join(key.split("/", _FAMILY_PARTS)[:_FAMILY_PARTS])
