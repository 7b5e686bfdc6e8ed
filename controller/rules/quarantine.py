"""Quarantine: a key for what was given back is put on a lease of the store, whose end frees it.

The store ends the lease by itself, so no controller needs to run then.
"""

from collections.abc import Callable
from typing import TypeVar

from controller.journal.actor import Requester
from controller.journal.journal import Journal, TransactionDraft, Written
from controller.store.port import LeaseId, LeaseLost, Store
from overlayd.model.errors import Unavailable

T = TypeVar("T")


class Quarantine:
    """Writes drafts that put something in quarantine, for `seconds` at least."""

    def __init__(self, store: Store, journal: Journal, seconds: float) -> None:
        self._store = store
        self._journal = journal
        self.seconds = seconds

    async def write(self, by: Requester, make: Callable[[LeaseId], TransactionDraft[T]]) -> Written[T]:
        """Write a draft whose keys may hang on the lease that it is given; raises what `Journal.write` raises."""
        lease = await self._store.grant(self.seconds)
        try:
            return await self._journal.write(by, lambda: make(lease))
        except LeaseLost:
            raise Unavailable("the store took longer than the quarantine lasts; try again") from None
