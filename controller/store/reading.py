"""Reading a store beside the controller that has it open: one state of it, from its first key to its last."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Protocol

from controller.clock import Clock
from controller.store.embedded import StoreRefused
from controller.store.history import History
from controller.store.opening import StoreChoice, open_store
from controller.store.port import PAGE_MAX, KeyValue, Page
from overlayd.model.ids import Revision


class Readable(Protocol):
    """The part of a store that reading takes."""

    @property
    def cluster(self) -> str: ...

    async def page(
        self,
        prefix: str,
        *,
        limit: int = PAGE_MAX,
        after_key: str | None = None,
        revision: Revision | None = None,
    ) -> Page: ...


class EmbeddedReader:
    """The store in a file, which a controller may have open and write to: SQLite shows each reader one state."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._history = History(connection)

    @property
    def cluster(self) -> str:
        return ""

    async def page(
        self,
        prefix: str,
        *,
        limit: int = PAGE_MAX,
        after_key: str | None = None,
        revision: Revision | None = None,
    ) -> Page:
        return self._history.page(prefix, limit, after_key, revision)


@asynccontextmanager
async def reading(choice: StoreChoice, clock: Clock) -> AsyncIterator[Readable]:
    """Open a store for reading; raise `StoreRefused` when it cannot be opened, or is damaged."""
    if isinstance(choice, Path):
        if not choice.exists():
            raise StoreRefused(f"{choice} does not exist")
        try:
            # mode=rw: SQLite shares data among processes in files beside the store, and mode=ro could not make these.
            with closing(
                sqlite3.connect(f"{choice.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
            ) as db:
                History(db).prepare()
                yield EmbeddedReader(db)
        except (sqlite3.DatabaseError, ValueError) as error:
            raise StoreRefused(f"{choice} cannot be read as a store: {error}") from error
        return
    store = open_store(choice, clock)
    try:
        yield store
    finally:
        await store.close()


async def everything(store: Readable, prefix: str) -> tuple[list[KeyValue], Revision]:
    """Return every key below a prefix as of one revision, and the revision."""
    page = await store.page(prefix)
    items, at = list(page.items), page.revision
    while page.more:
        page = await store.page(prefix, after_key=items[-1].key, revision=at)
        items += page.items
    return items, at
