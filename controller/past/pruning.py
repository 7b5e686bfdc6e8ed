"""Pruning of the history: entries that are too old, and the oldest of too many."""

from dataclasses import dataclass

from controller.state import keys
from controller.store.port import (
    TRANSACTION_MAX,
    Compare,
    Conflict,
    DeleteKey,
    KeyValue,
    PutKey,
    RevisionCompacted,
    Store,
    Transaction,
)
from overlayd.model.ids import Revision

_STEP = TRANSACTION_MAX - 1
"""How many entries one transaction removes, beside the mark that says so."""


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """How long, in seconds, entries of the history are kept, and how many of them."""

    age: float = 30 * 86400.0
    count: int = 100_000


DEFAULT = HistoryLimits()
"""What is kept by default."""


class Pruning:
    """Removes the entries of the history that are too old, and the oldest ones of too many.

    Every controller does so. All of them remove the same entries, chosen from the history as of one revision.
    """

    def __init__(self, store: Store, limits: HistoryLimits) -> None:
        self._store = store
        self._limits = limits

    async def prune(self, now: float) -> int:
        """Remove what is due at a time (seconds since 1970, UTC) and return how many entries that were.

        Raises `StoreUnavailable`.
        """
        counted = await self._store.count(keys.HISTORY)
        surplus = counted.number - self._limits.count
        oldest = keys.history_from(now - self._limits.age)
        removed, last = 0, None
        while True:
            try:
                page = await self._store.page(keys.HISTORY, limit=_STEP, after_key=last, revision=counted.revision)
            except RevisionCompacted:
                return removed  # this run took too long; the next one continues
            due = [item for index, item in enumerate(page.items) if removed + index < surplus or item.key < oldest]
            if not due:
                return removed
            await self._remove(due)
            removed, last = removed + len(due), due[-1].key

    async def _remove(self, due: list[KeyValue]) -> None:
        """Remove entries, and record until when the history is pruned; another controller may have pruned more."""
        until = keys.decode(due[-1].value).value.get("at")
        while True:
            mark = await self._store.get(keys.HISTORY_BEGIN)
            said = keys.decode(mark.value).value.get("at") if mark else None
            behind = not isinstance(said, int | float) or (isinstance(until, int | float) and said < until)
            begin = (PutKey(keys.HISTORY_BEGIN, keys.encode({"at": until})),) if behind else ()
            unchanged = Compare(keys.HISTORY_BEGIN, mark.mod_revision if mark else Revision(0))
            removal = Transaction((unchanged,), (*(DeleteKey(item.key) for item in due), *begin))
            if not isinstance(await self._store.commit(removal), Conflict):
                return
