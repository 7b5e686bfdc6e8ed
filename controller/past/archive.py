"""Queries of the history: who changed an object, and its state at some time.

Entries are read in small pages and none is kept. Their keys are in the order of time, so recent entries are found at
once, however long the history is.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

from controller.clock import Clock
from controller.journal.actor import Actor
from controller.journal.change_record import Form
from controller.past.subjects import EVERYTHING, KINDS, Identity, Subject, identity, quoted
from controller.state import keys
from controller.state.mirror import Mirror
from controller.store.port import KeyValue, Store
from overlayd.model.cluster import Record
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import Revision
from overlayd.wire import records
from overlayd.wire.fields import Fields

_PAGE_MIN, _PAGE_MAX = 10, 160
"""Entries that are read at once, at first and later on. One may tell of a hundred objects, and etcd has two seconds."""

_FIRST_STRETCH = 1.0
"""Seconds of the history that are looked through first; the next stretch is four times as long, and so on."""

_SKEW = 60.0
"""Seconds by which the clocks of controllers may differ, and the states of objects are still answered correctly."""

_READERS = 4
"""How many questions are answered at once: each may go through the whole history."""

_NAMESAKES = 100
"""Changes of hosts that are looked at to find out which one a name meant."""

_BREATH = 1000
"""How many records are looked through before others have their turn."""


@dataclass(frozen=True, slots=True)
class PastChange:
    """One object that one transaction changed. `at` is in seconds since 1970 (UTC), `place` in the history's order."""

    place: str
    revision: Revision
    at: float
    by: Actor
    kind: str
    before: Form | None
    after: Form | None

    @property
    def forms(self) -> Iterator[Form]:
        """How the object was before and after, where it existed."""
        return (form for form in (self.before, self.after) if form is not None)


@dataclass(frozen=True, slots=True)
class Search:
    """Which changes to find: those of a subject, by an actor, in a stretch of time (seconds since 1970, UTC)."""

    subject: Subject = EVERYTHING
    actor: str | None = None
    since: float | None = None
    until: float | None = None

    def matches(self, change: PastChange) -> bool:
        """Return whether a change matches."""
        return (
            self.actor in (None, change.by.name)
            and (self.since is None or change.at >= self.since)
            and (self.until is None or change.at <= self.until)
            and any(self.subject.matches(change.kind, form) for form in change.forms)
        )

    def may_be_in(self, entry: bytes) -> bool:
        """Return whether an entry of the history may match."""
        return self.subject.may_be_in(entry) and (self.actor is None or quoted(self.actor) in entry)


@dataclass(frozen=True, slots=True)
class PastObject:
    """An object as it was at some time."""

    identity: Identity
    state: Record | Form

    @property
    def kind(self) -> str:
        return self.identity[0]

    @property
    def form(self) -> Form:
        return self.state if isinstance(self.state, dict) else records.encode(self.state)


@dataclass(frozen=True, slots=True)
class Past:
    """Objects as they were at some time. The history is `complete` if it reaches back that far."""

    objects: tuple[PastObject, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class _KnownForm:
    """The state of an object at a moment, from one of its changes; None: it did not exist, or does not match."""

    is_before: bool
    revision: Revision
    form: Form | None

    @property
    def weight(self) -> tuple[bool, int]:
        """The order of preference: the last change up to the moment, else the first one after it."""
        return self.is_before, self.revision if self.is_before else -self.revision


@dataclass(slots=True)
class _States:
    """The states of objects at a moment, from changes in any order: clocks differ, and revisions order the changes."""

    subject: Subject
    moment: float
    known: dict[Identity, _KnownForm] = field(default_factory=dict)

    def take(self, change: PastChange) -> None:
        """Apply a change."""
        is_before = change.at <= self.moment
        form = change.after if is_before else change.before
        matching = form if form is not None and self.subject.matches(change.kind, form) else None
        candidate = _KnownForm(is_before, change.revision, matching)
        key = identity(change.kind, next(change.forms))
        if key not in self.known or self.known[key].weight < candidate.weight:
            self.known[key] = candidate


class Archive:
    """The history in the store."""

    def __init__(self, store: Store, mirror: Mirror, clock: Clock) -> None:
        self._store = store
        self._mirror = mirror
        self._clock = clock
        self._readers = asyncio.Semaphore(_READERS)

    async def begins(self) -> float:
        """Return the time, in seconds since 1970 (UTC), before which changes may have been forgotten; 0: none were."""
        marker = await self._store.get(keys.HISTORY_BEGIN)
        return _seconds(keys.decode(marker.value)) if marker else 0.0

    async def changes(self, search: Search, before: str, limit: int) -> list[PastChange]:
        """Return the latest changes that match, newest first, of those with a place below `before` ("": all).

        Raises `InvalidValue` when that is no place in the history.
        """
        found: list[PastChange] = []
        async with self._readers:
            start = await self._start(search.since)
            end, newest = _end(search.until, before)
            top = min(self._clock.wall(), newest)
            stretch = _FIRST_STRETCH
            while len(found) < limit:
                begin = max(start, keys.history_from(top - stretch))
                found += await self._newest(search, begin, end, before, limit - len(found))
                if begin == start:
                    break
                end, top, stretch = begin, top - stretch, stretch * 4
        return found

    async def hosts_called(self, name: str) -> frozenset[str]:
        """Return the ids of the hosts with a name; if there is none now, of those that had it."""
        present = frozenset(host.id for host in self._mirror.intent.hosts.values() if name in (host.id, host.name))
        if present:
            return present
        past = await self.changes(Search(Subject("host", name=name)), "", _NAMESAKES)
        return frozenset(str(form.get("id")) for change in past for form in change.forms)

    async def at(self, subject: Subject, moment: float) -> Past:
        """Return the records that matched at a moment, in seconds since 1970 (UTC)."""
        # First what is, then what changed: a change that comes in between is undone, and none is missed.
        objects = {found.identity: found async for found in self._present(subject)}
        states = _States(subject, moment)
        async with self._readers, aclosing(self._entries(keys.history_from(moment - _SKEW), None)) as entries:
            async for entry in entries:
                for change in _read(entry) if subject.may_be_in(entry.value) else ():
                    if change.kind in KINDS:
                        states.take(change)
        for key, known in states.known.items():
            objects.pop(key, None)
            if known.form is not None:
                objects[key] = PastObject(key, known.form)
        return Past(tuple(objects.values()), moment >= await self.begins())

    async def _present(self, subject: Subject) -> AsyncGenerator[PastObject]:
        intent = self._mirror.intent
        tables: dict[str, list[Record]] = {
            "network": [*intent.networks.values()],
            "host": [*intent.hosts.values()],
            "block": [*intent.blocks()],
            "reservation": [*intent.reservations()],
            "endpoint": [*intent.endpoints()],
        }
        for kind in tables.keys() & {subject.kind or kind for kind in tables}:
            for number, record in enumerate(tables[kind]):
                form = records.encode(record)
                if subject.matches(kind, form):
                    yield PastObject(identity(kind, form), record)
                if number % _BREATH == _BREATH - 1:
                    await asyncio.sleep(0)

    async def _newest(self, search: Search, begin: str, end: str | None, before: str, limit: int) -> list[PastChange]:
        """Return the newest changes that match between two keys, newest first."""
        newest: deque[PastChange] = deque(maxlen=limit)
        async with aclosing(self._entries(begin, end)) as entries:
            async for entry in entries:
                if search.may_be_in(entry.value):
                    changes = (change for change in _read(entry) if not before or change.place < before)
                    newest.extend(change for change in changes if search.matches(change))
        return list(reversed(newest))

    async def _start(self, since: float | None) -> str:
        """Return a key at or before the first entry that matters."""
        if since is not None:
            return keys.history_from(since)
        first = await self._store.page(keys.HISTORY, limit=1)
        return first.items[0].key.partition("-")[0] if first.items else keys.history_from(0)

    async def _entries(self, begin: str, end: str | None) -> AsyncGenerator[KeyValue]:
        """Yield the entries after one key and before another, oldest first, at whatever revision they are found."""
        last, more, limit = begin, True, _PAGE_MIN
        while more:
            page = await self._store.page(keys.HISTORY, limit=limit, after_key=last)
            more, limit = page.more, min(2 * limit, _PAGE_MAX)
            for item in page.items:
                if end is not None and item.key >= end:
                    return
                yield item
                last = item.key


def _end(until: float | None, before: str) -> tuple[str | None, float]:
    """Return a key after every entry that may match, None if all may, and its time.

    Raises `InvalidValue` when `before` is no place in the history.
    """
    ends = [] if until is None else [(keys.history_from(until + 1), until)]
    if before:
        stamp = before.partition("-")[0]
        if not (stamp.isascii() and stamp.isdigit()):
            raise InvalidValue("is not the `next` of a page of the history", field="after")
        ends.append((f"{keys.HISTORY}{before}", int(stamp) / 1e6))
    return min(ends, default=(None, math.inf))


def _seconds(fields: Fields) -> float:
    at = fields.value.get("at")
    return float(at) if isinstance(at, int | float) else 0.0


def _read(item: KeyValue) -> Iterator[PastChange]:
    fields = keys.decode(item.value)
    actor = fields.object("actor")
    by, at = Actor(actor.text("name"), actor.text("role")), _seconds(fields)
    place = item.key.removeprefix(keys.HISTORY)
    for index, change in enumerate(fields.objects("changes")):
        yield PastChange(
            f"{place}-{index:04}",
            item.mod_revision,
            at,
            by,
            change.text("kind"),
            change.object("before").value if change.has("before") else None,
            change.object("after").value if change.has("after") else None,
        )
