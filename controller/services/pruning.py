"""Forgetting the oldest of the history: what is too old, and what is too much."""

from dataclasses import dataclass

from controller.clock import Clock
from controller.services import keys
from controller.store.port import TRANSACTION_MAX, Delete, KeyValue, Page, Put, Store, Transaction

_STEP = TRANSACTION_MAX - 1
"""How many entries one transaction removes, beside the mark that says so."""


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """How long, in seconds, entries of the history are kept, and how many of them."""

    age: float = 30 * 86400.0
    count: int = 100_000


DEFAULT = HistoryLimits()
"""What is kept unless somebody says otherwise."""


class Pruning:
    """Removes the entries of the history that are too old, and the oldest ones of too many.

    Every controller does so: a removal that another one made already removes nothing.
    """

    def __init__(self, store: Store, clock: Clock, limits: HistoryLimits) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits

    async def prune(self) -> int:
        """Remove what is due and return how many entries that were; raises `StoreUnavailable`."""
        surplus = await self._number() - self._limits.count
        oldest = f"{keys.HISTORY}{round((self._clock.wall() - self._limits.age) * 1e6):017}"
        removed = 0
        while True:
            page = await self._store.page(keys.HISTORY, limit=_STEP)
            due = [item for index, item in enumerate(page.items) if removed + index < surplus or item.key < oldest]
            if not due:
                return removed
            await self._store.commit(Transaction((), (*(Delete(item.key) for item in due), _mark(due[-1]))))
            removed += len(due)

    async def _number(self) -> int:
        page = await self._store.page(keys.HISTORY)
        number = len(page.items)
        while page.more:
            page = await self._following(page)
            number += len(page.items)
        return number

    async def _following(self, page: Page) -> Page:
        return await self._store.page(keys.HISTORY, after_key=page.items[-1].key, revision=page.revision)


def _mark(last: KeyValue) -> Put:
    """Return the write that says until when the history has been forgotten."""
    return Put(keys.HISTORY_BEGIN, keys.encode({"at": keys.decode(last.value).value.get("at")}))
