"""The embedded store: one SQLite file, one controller, nothing to set up.

Writes go to one thread, which puts all that wait into one transaction of SQLite: they share the cost of making them
durable, and still are revisions of their own. Reads have a connection and a thread of their own, and never wait for a
write. The event loop waits for neither. A watch gets the latest writes from memory: to read them would take longer than
to write them.
"""

import asyncio
import fcntl
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn, Self, TypeVar, cast

from controller.clock import Clock
from controller.store.history import History
from controller.store.port import (
    PAGE_MAX,
    Committed,
    Conflict,
    Count,
    KeyValue,
    LeaseId,
    LeaseLost,
    Page,
    Replaced,
    RevisionEvents,
    StoreUnavailable,
    Transaction,
    always,
)
from overlayd.model.errors import Unavailable
from overlayd.model.ids import Revision
from overlayd.service.ready_threads import ready_threads

T = TypeVar("T")

_FILE_INTERVAL = 1.0
"""Seconds between looks whether the file is still the one that was opened."""

_EXPIRY_INTERVAL = 0.5
"""Seconds between looks at the leases: how much longer than its time a lease may last."""

_BATCH_MAX = 256
"""The most writes that share one commit of SQLite."""

_STRETCH = 256
"""How many revisions a watch reads at once."""

_RECENT = 64
"""How many of the latest revisions are kept in memory for watches; most are about one record."""


class StoreRefused(Exception):
    """The file cannot be used: another controller has it open, or it holds something else."""


@dataclass(frozen=True, slots=True)
class _Write:
    """A queued write, and the future of its caller."""

    make: Callable[[History], object]
    result: asyncio.Future[object]


@dataclass(frozen=True, slots=True)
class _Access:
    """A connection, and the thread that uses it."""

    connection: sqlite3.Connection
    thread: ThreadPoolExecutor


class EmbeddedStore:
    """A `Store` in one SQLite file. Made by `EmbeddedStore.open`."""

    def __init__(self, path: Path, clock: Clock, writes: _Access, reads: _Access, files: ExitStack) -> None:
        self._path = path
        self._clock = clock
        self._files = files
        self._opened = path.stat()
        self._beside = {each: each.stat().st_ino for each in _beside(path) if each.exists()}
        self._write_connection = writes.connection
        self._history, self._reads = History(writes.connection), History(reads.connection)
        self._known = self._history.revision()
        self._replaced: str | None = None
        # Leases begin again with the process, as in etcd with a new leader: none could be kept alive in between.
        self._ttls = self._history.leases()
        self._deadlines = {lease: clock.now() + ttl for lease, ttl in self._ttls.items()}
        self._writer, self._reader = writes.thread, reads.thread
        self._waiting: asyncio.Queue[_Write] = asyncio.Queue()
        self._written = asyncio.Event()
        self._recent = deque[RevisionEvents](maxlen=_RECENT)

    @property
    def cluster(self) -> str:
        return ""

    @classmethod
    def open(cls, path: Path, clock: Clock) -> Self:
        """Open the file, or make it; raise `StoreRefused` when it cannot be used."""
        try:
            lock = path.with_name(path.name + ".lock").open("ab")
        except OSError as error:
            raise StoreRefused(f"{path} cannot be opened: {error.strerror}") from error
        kept = ExitStack()
        with ExitStack() as files:
            files.enter_context(lock)
            files.callback(fcntl.flock, lock, fcntl.LOCK_UN)  # closing is not enough: see `close_unlocked`
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                writes, reads = (files.enter_context(closing(_connect(path))) for _ in range(2))
                History(writes).prepare()
                writer, reader = (
                    files.enter_context(ready_threads(1, f"store-{each}")) for each in ("writer", "reader")
                )
                store = cls(path, clock, _Access(writes, writer), _Access(reads, reader), kept)
                kept.enter_context(files.pop_all())
            except BlockingIOError:
                raise StoreRefused(f"{path} is in use by another controller") from None
            except (sqlite3.DatabaseError, ValueError, Unavailable) as error:
                raise StoreRefused(f"{path} cannot be used as a store: {error}") from error
        return store

    async def run(self) -> None:
        """Write queued transactions and expire leases, until cancelled. Nothing is written while this does not run.

        Raises `Replaced` when another file has taken the place of the store's file.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_batches(), name="store-writes")
            tasks.create_task(self._expire_leases(), name="store-leases")
            tasks.create_task(self._watch_file(), name="store-file")

    async def close(self) -> None:
        self._files.close()
        if self._replaced:
            self._remove_beside()

    async def current_revision(self) -> Revision:
        return await self._read(History.revision)

    async def get(self, key: str, revision: Revision | None = None) -> KeyValue | None:
        return await self._read(lambda history: history.get(key, revision))

    async def page(
        self,
        prefix: str,
        *,
        limit: int = PAGE_MAX,
        after_key: str | None = None,
        revision: Revision | None = None,
    ) -> Page:
        return await self._read(lambda history: history.page(prefix, limit, after_key, revision))

    async def count(self, prefix: str) -> Count:
        return await self._read(lambda history: history.count(prefix))

    async def commit(self, transaction: Transaction, go_on: Callable[[], bool] = always) -> Committed | Conflict:
        del go_on  # it is tried once
        return await self._write(lambda history: history.commit(transaction))

    async def check_writable(self) -> None:
        await self._write(History.touch)

    async def grant(self, ttl: float) -> LeaseId:
        lease = await self._write(lambda history: history.grant(ttl))
        self._ttls[lease] = ttl
        self._deadlines[lease] = self._clock.now() + ttl
        return lease

    async def keep_alive(self, lease: LeaseId) -> None:
        if lease not in self._deadlines:
            raise LeaseLost(lease)
        self._deadlines[lease] = self._clock.now() + self._ttls[lease]

    async def revoke(self, lease: LeaseId) -> None:
        self._deadlines.pop(lease, None)
        await self._write(lambda history: history.revoke(lease))
        self._ttls.pop(lease, None)

    async def watch(self, prefix: str, after_revision: Revision) -> AsyncIterator[RevisionEvents]:
        position = after_revision
        while True:
            written = self._written  # taken before the read: a write that comes during it is not missed
            if (recent := self._since(position)) is not None:
                for changes in recent:
                    position = changes.revision
                    if events := tuple(event for event in changes.events if event.key.startswith(prefix)):
                        yield RevisionEvents(changes.revision, events)
                await written.wait()
                continue
            at = position
            stretch = await self._read(lambda history: history.changes(prefix, at, _STRETCH))  # noqa: B023
            for changes in stretch.changes:
                yield changes
            position = stretch.until
            if not stretch.more:
                await written.wait()

    async def compact(self, revision: Revision) -> None:
        await self._write(lambda history: history.compact(revision))
        while self._recent and self._recent[0].revision <= revision:
            self._recent.popleft()

    def _since(self, revision: Revision) -> list[RevisionEvents] | None:
        """Return the events after a revision; None when memory has not all of them. Raises `Replaced`."""
        if self._replaced:
            raise Replaced(self._replaced)
        if not self._recent or not self._recent[0].revision <= revision + 1 <= self._recent[-1].revision + 1:
            return None
        return [*islice(self._recent, revision + 1 - self._recent[0].revision, None)]

    async def _read(self, look: Callable[[History], T]) -> T:
        loop = asyncio.get_running_loop()
        if self._replaced:
            raise Replaced(self._replaced)
        try:
            return await loop.run_in_executor(self._reader, look, self._reads)
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(f"the store cannot be read: {error} ({error.sqlite_errorname})") from error
        except sqlite3.DatabaseError as error:
            self._refuse(f"{self._path} cannot be read any more: {error}")

    async def _write(self, make: Callable[[History], T]) -> T:
        """Return the result of `make`, once its writes are durable."""
        if self._replaced:
            raise Replaced(self._replaced)
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Write(make, cast("asyncio.Future[object]", result)))
        return await result

    async def _write_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < _BATCH_MAX and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            makes = [write.make for write in batch]
            outcomes, written = await loop.run_in_executor(self._writer, self._write_now, makes)
            self._recent.extend(written)
            for write, outcome in zip(batch, outcomes, strict=True):
                if write.result.cancelled():
                    continue
                if isinstance(outcome, Exception):
                    write.result.set_exception(outcome)
                else:
                    write.result.set_result(outcome)
            self._written.set()
            self._written = asyncio.Event()

    def _write_now(self, batch: list[Callable[[History], object]]) -> tuple[list[object], list[RevisionEvents]]:
        """Return the result of each write, or the exception that ended it, and what was written.

        Runs in the writer's thread.
        """
        self._history.take_written()  # an earlier batch may have been rolled back
        try:
            self._write_connection.execute("BEGIN IMMEDIATE")
            if (found := self._history.revision()) < self._known:
                self._write_connection.execute("ROLLBACK")
                self._replaced = f"{self._path} is at revision {found}, and was at {self._known}: it was exchanged"
                return [Replaced(self._replaced)] * len(batch), []
            outcomes = [self._outcome(make) for make in batch]
            known = self._history.revision()
            self._write_connection.execute("COMMIT")
            self._known = known
        except sqlite3.OperationalError as error:
            if self._write_connection.in_transaction:
                self._write_connection.execute("ROLLBACK")
            unavailable = StoreUnavailable(f"the store cannot be written: {error} ({error.sqlite_errorname})")
            return [unavailable] * len(batch), []
        except sqlite3.DatabaseError as error:
            self._replaced = f"{self._path} cannot be written any more: {error}"
            return [Replaced(self._replaced)] * len(batch), []
        return outcomes, self._history.take_written()

    def _outcome(self, make: Callable[[History], object]) -> object:
        try:
            return make(self._history)
        except LeaseLost as lost:  # raised before anything is written: the rest of the batch is sound
            return lost

    def _remove_beside(self) -> None:
        """Remove what the file that was opened had beside it: SQLite would take it for that of the new one."""
        for path, inode in self._beside.items():
            if path.exists() and path.stat().st_ino == inode and self._has_gone():
                path.unlink()

    def _has_gone(self) -> bool:
        return not self._path.exists() or self._path.stat().st_ino != self._opened.st_ino

    def _refuse(self, reason: str) -> NoReturn:
        """Let nothing more be read or written."""
        self._replaced = reason
        raise Replaced(reason)

    async def _watch_file(self) -> None:
        """Find out when the file is not the one any more that was opened; raises `Replaced`."""
        while True:
            await self._clock.sleep(_FILE_INTERVAL)
            if self._replaced:
                raise Replaced(self._replaced)
            try:
                found = self._path.stat()
            except OSError as error:
                self._refuse(f"{self._path} is gone: {error.strerror}")
            if (found.st_dev, found.st_ino) != (self._opened.st_dev, self._opened.st_ino):
                self._refuse(f"{self._path} is another file than the one that was opened")

    async def _expire_leases(self) -> None:
        while True:
            await self._clock.sleep(_EXPIRY_INTERVAL)
            now = self._clock.now()
            for lease in [lease for lease, deadline in self._deadlines.items() if deadline <= now]:
                try:
                    await self.revoke(lease)
                except StoreUnavailable:
                    self._deadlines[lease] = now  # still due: the next look tries again


def _beside(path: Path) -> tuple[Path, Path]:
    """Return where SQLite keeps what was written last, and what its readers share."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _connect(path: Path) -> sqlite3.Connection:
    # Autocommit: transactions begin and end where `History` and `_write_now` say. Each connection is used by one thread
    # at a time, which SQLite demands and the module would otherwise check against the thread that made it.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.DatabaseError:  # it is no database
        connection.close()
        raise
    return connection
