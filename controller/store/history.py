"""The tables of the embedded store, on one SQLite connection. Synchronous: threads are `embedded`'s business."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter, itemgetter

from controller.store.port import (
    Committed,
    Compare,
    Conflict,
    Count,
    DeleteKey,
    Event,
    KeyValue,
    LeaseId,
    LeaseLost,
    Page,
    PutKey,
    RevisionCompacted,
    RevisionEvents,
    Transaction,
    Unmodified,
)
from overlayd.model.ids import Revision

SCHEMA_VERSION = 1

# A row of `history` is what one revision made of one key; no value means deleted. The live value of a key is its row of
# the highest revision, which the primary key finds in one step.
_SCHEMA = """
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO counters VALUES ('revision', 0), ('compacted', 0);
CREATE TABLE history (
    key TEXT NOT NULL,
    mod_revision INTEGER NOT NULL,
    create_revision INTEGER NOT NULL,
    value BLOB,
    lease INTEGER,
    PRIMARY KEY (key, mod_revision)
) STRICT, WITHOUT ROWID;
CREATE INDEX history_by_revision ON history (mod_revision);
CREATE INDEX history_by_lease ON history (lease) WHERE lease IS NOT NULL;
CREATE TABLE leases (id INTEGER PRIMARY KEY AUTOINCREMENT, ttl REAL NOT NULL) STRICT;
"""

_ROW = "h.key, h.value, h.create_revision, h.mod_revision, h.lease"
_IS_LAST = "h.mod_revision = (SELECT max(mod_revision) FROM history WHERE key = h.key AND mod_revision <= :revision)"


@dataclass(frozen=True, slots=True)
class Stretch:
    """The changes of a stretch of revisions that ends with `until`. `more` is true if the store has later ones."""

    changes: tuple[RevisionEvents, ...]
    until: Revision
    more: bool


class History:
    """Every key with its past. Methods that write belong inside a transaction of SQLite that the caller holds."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._written: list[RevisionEvents] = []

    def prepare(self) -> None:
        """Make the tables in a new file.

        Raises `ValueError` when the file belongs to another version or program, or when it is damaged, which is
        looked for from its first page to its last.
        """
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == SCHEMA_VERSION:
            self._check()
            return
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if version or tables:
            raise ValueError(f"its schema is version {version}, and this program reads version {SCHEMA_VERSION}")
        self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")

    def _check(self) -> None:
        problems = [text for (text,) in self._db.execute("PRAGMA integrity_check(3)") if text != "ok"]
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        problems += [f"table {name} is missing" for name in sorted({"counters", "history", "leases"} - tables)]
        if not problems:
            counted = dict(self._db.execute("SELECT name, value FROM counters").fetchall())
            (newest,) = self._db.execute("SELECT max(mod_revision) FROM history").fetchone()
            if not counted.keys() >= {"revision", "compacted"} or counted["revision"] < (newest or 0):
                problems = ["it has changes beyond its last revision"]
        if problems:
            raise ValueError(f"it is damaged: {'; '.join(problems)}. Restore a backup (overlay-controller restore)")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let all reads inside see one state."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.rollback()

    def revision(self) -> Revision:
        return self._counter("revision")

    def take_written(self) -> list[RevisionEvents]:
        """Return the events that this object wrote since the last call, also those that SQLite rolled back later."""
        written, self._written = self._written, []
        return written

    def touch(self) -> None:
        """Write what is there already: a page of its header, as SQLite leaves out a row that does not change."""
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def get(self, key: str, revision: Revision | None) -> KeyValue | None:
        """Return a key as of `revision`; raise `RevisionCompacted` when that is forgotten."""
        with self.reading():
            return self._at(key, self._readable(revision))

    def page(self, prefix: str, limit: int, after_key: str | None, revision: Revision | None) -> Page:
        """Return one page of keys; raise `RevisionCompacted` when the revision is forgotten."""
        with self.reading():
            at = self._readable(revision)
            rows = self._db.execute(
                f"SELECT {_ROW} FROM history h WHERE h.key > :after AND h.key < :end AND {_IS_LAST}"  # noqa: S608
                " AND h.value IS NOT NULL ORDER BY h.key LIMIT :limit",
                {"after": after_key or prefix, "end": _end(prefix), "revision": at, "limit": limit + 1},
            ).fetchall()
        return Page(tuple(KeyValue(*row) for row in rows[:limit]), at, more=len(rows) > limit)

    def count(self, prefix: str) -> Count:
        """Return how many keys are below the prefix."""
        with self.reading():
            at = self.revision()
            (number,) = self._db.execute(
                "SELECT count(*) FROM history h WHERE h.key > :after AND h.key < :end AND h.value IS NOT NULL"  # noqa: S608
                f" AND {_IS_LAST}",
                {"after": prefix, "end": _end(prefix), "revision": at},
            ).fetchone()
        return Count(number, at)

    def changes(self, prefix: str, after: Revision, limit: int) -> Stretch:
        """Return the changes of the next `limit` revisions below the prefix.

        Raises `RevisionCompacted` when that is forgotten.
        """
        with self.reading():
            newest = self.revision()
            if after < self._counter("compacted"):
                raise RevisionCompacted
            until = Revision(min(newest, after + limit))
            rows = self._db.execute(
                "SELECT h.mod_revision, h.key, h.value, (SELECT p.value FROM history p WHERE p.key = h.key"
                " AND p.mod_revision < h.mod_revision ORDER BY p.mod_revision DESC LIMIT 1)"
                " FROM history h WHERE h.mod_revision > ? AND h.mod_revision <= ? AND h.key > ? AND h.key < ?"
                " ORDER BY h.mod_revision, h.key",
                (after, until, prefix, _end(prefix)),
            ).fetchall()
        groups = groupby(rows, key=itemgetter(0))
        changes = tuple(RevisionEvents(at, tuple(Event(*row[1:]) for row in group)) for at, group in groups)
        return Stretch(changes, until, more=until < newest)

    def commit(self, transaction: Transaction) -> Committed | Conflict:
        """Write the transaction's rows if its compares hold; raise `LeaseLost` before anything is written."""
        revision = self.revision()
        if not all(self._holds(compare, revision) for compare in transaction.compares):
            return Conflict(revision)
        for lease in {op.lease for op in transaction.ops if isinstance(op, PutKey) and op.lease is not None}:
            if not self._db.execute("SELECT 1 FROM leases WHERE id = ?", (lease,)).fetchone():
                raise LeaseLost(lease)
        return Committed(self._write(transaction.ops, revision))

    def grant(self, ttl: float) -> LeaseId:
        """Add a lease of `ttl` seconds and return its id, which is never used again."""
        return LeaseId(self._db.execute("INSERT INTO leases (ttl) VALUES (?)", (ttl,)).lastrowid or 0)

    def leases(self) -> dict[LeaseId, float]:
        """Return every lease with its time to live in seconds."""
        return dict(self._db.execute("SELECT id, ttl FROM leases").fetchall())

    def revoke(self, lease: LeaseId) -> None:
        """Remove a lease, and its keys in one revision."""
        revision = self.revision()
        keys = self._db.execute(
            f"SELECT h.key FROM history h WHERE h.lease = :lease AND {_IS_LAST}",  # noqa: S608
            {"lease": lease, "revision": revision},
        ).fetchall()
        self._write([DeleteKey(key) for (key,) in keys], revision)
        self._db.execute("DELETE FROM leases WHERE id = ?", (lease,))

    def compact(self, revision: Revision) -> None:
        """Remove the rows that no read at `revision` or later needs."""
        revision = min(revision, self.revision())
        if revision <= self._counter("compacted"):
            return
        self._db.execute(
            "DELETE FROM history AS h WHERE h.mod_revision < :revision AND EXISTS (SELECT 1 FROM history n"
            " WHERE n.key = h.key AND n.mod_revision > h.mod_revision AND n.mod_revision <= :revision)",
            {"revision": revision},
        )
        self._db.execute("DELETE FROM history WHERE mod_revision <= ? AND value IS NULL", (revision,))
        self._db.execute("UPDATE counters SET value = ? WHERE name = 'compacted'", (revision,))

    def _counter(self, name: str) -> Revision:
        (value,) = self._db.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
        return Revision(value)

    def _readable(self, revision: Revision | None) -> Revision:
        if revision is None:
            return self.revision()
        if revision < self._counter("compacted"):
            raise RevisionCompacted
        return revision

    def _at(self, key: str, revision: Revision) -> KeyValue | None:
        row = self._db.execute(
            f"SELECT {_ROW} FROM history h WHERE h.key = ? AND h.mod_revision <= ?"  # noqa: S608
            " ORDER BY h.mod_revision DESC LIMIT 1",
            (key, revision),
        ).fetchone()
        return KeyValue(*row) if row and row[1] is not None else None

    def _holds(self, compare: Compare | Unmodified, revision: Revision) -> bool:
        if isinstance(compare, Compare):
            found = self._at(compare.key, revision)
            return (found.mod_revision if found else 0) == compare.mod_revision
        modified = self._db.execute(
            "SELECT 1 FROM history h INDEXED BY history_by_revision"  # noqa: S608
            f" WHERE h.mod_revision > :since AND h.key > :prefix AND h.key < :end AND {_IS_LAST}"
            " AND h.value IS NOT NULL LIMIT 1",
            {"since": compare.since, "prefix": compare.prefix, "end": _end(compare.prefix), "revision": revision},
        )
        return modified.fetchone() is None

    def _write(self, ops: Iterable[PutKey | DeleteKey], revision: Revision) -> Revision:
        next_revision = Revision(revision + 1)
        rows: list[tuple[str, Revision, Revision, bytes | None, LeaseId | None]] = []
        events: list[Event] = []
        for op in ops:
            found = self._at(op.key, revision)
            created = found.create_revision if found else next_revision
            if isinstance(op, PutKey):
                rows.append((op.key, next_revision, created, op.value, op.lease))
                events.append(Event(op.key, op.value, found.value if found else None))
            elif found:
                rows.append((op.key, next_revision, created, None, None))
                events.append(Event(op.key, None, found.value))
        if not rows:
            return revision
        self._db.executemany("INSERT INTO history VALUES (?, ?, ?, ?, ?)", rows)
        self._db.execute("UPDATE counters SET value = ? WHERE name = 'revision'", (next_revision,))
        self._written.append(RevisionEvents(next_revision, tuple(sorted(events, key=attrgetter("key")))))
        return next_revision


def _end(prefix: str) -> str:
    """Return the first key after all those that start with the prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
