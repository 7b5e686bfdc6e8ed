"""Reading the history: who changed something, and how it was at some time."""

import json
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from controller.services import keys
from controller.services.actor import Actor
from controller.services.mirror import Mirror
from controller.store.port import KeyValue, Page, Store
from overlayd.model.address import IpAddress, IpNetwork
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import Revision
from overlayd.wire import records
from overlayd.wire.fields import Fields, Json

Form = dict[str, Json]
"""A record, or what else the history tells of, as JSON."""

_RECORDS = frozenset(records.KINDS)


@dataclass(frozen=True, slots=True)
class Change:
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
class Subject:
    """What a question is about: objects that match everything that is given. `hosts` are ids and names of one host."""

    kind: str | None = None
    network: str | None = None
    hosts: frozenset[str] = frozenset()
    address: IpAddress | None = None
    container: str | None = None
    name: str | None = None

    def matches(self, kind: str, form: Form) -> bool:
        """Tell whether an object is meant."""
        return (
            self.kind in (None, kind)
            and (self.network is None or self.network == form.get("name" if kind == "network" else "network"))
            and (not self.hosts or not self.hosts.isdisjoint(_hosts(kind, form)))
            and (self.container is None or self.container in _containers(form))
            and (self.name is None or self.name in (form.get("name"), form.get("id")))
            and (self.address is None or _has_address(form, self.address))
        )

    @property
    def texts(self) -> tuple[bytes, ...]:
        """What stands in the bytes of every entry that may match: most are passed over without being read."""
        return tuple(json.dumps(text).encode() for text in (self.network, self.container, self.name) if text)


@dataclass(frozen=True, slots=True)
class Search:
    """Which changes to find: those of a subject, by an actor, in a stretch of time (seconds since 1970, UTC)."""

    subject: Subject = Subject()
    actor: str | None = None
    since: float | None = None
    until: float | None = None

    def matches(self, change: Change) -> bool:
        """Tell whether a change is meant."""
        return (
            self.actor in (None, change.by.name)
            and (self.since is None or change.at >= self.since)
            and (self.until is None or change.at <= self.until)
            and any(self.subject.matches(change.kind, form) for form in change.forms)
        )


@dataclass(frozen=True, slots=True)
class Past:
    """Objects as they were at some time. The history is `complete` if it reaches back that far."""

    forms: tuple[tuple[str, Form], ...]
    complete: bool


class Archive:
    """The history in the store, read in pages: none of it is kept in memory."""

    def __init__(self, store: Store, mirror: Mirror) -> None:
        self._store = store
        self._mirror = mirror

    async def begins(self) -> float:
        """Return the time, in seconds since 1970 (UTC), before which changes may have been forgotten; 0: none were."""
        marker = await self._store.get(keys.HISTORY_BEGIN)
        return _seconds(keys.decode(marker.value)) if marker else 0.0

    async def changes(self, search: Search, before: str, limit: int) -> list[Change]:
        """Return the latest changes that match, newest first, of those with a place below `before` ("": all)."""
        found: deque[Change] = deque(maxlen=limit)
        async for change in self._walk(search.subject, search.since):
            if before and change.place >= before:
                break
            if search.matches(change):
                found.append(change)
        return list(reversed(found))

    async def at(self, subject: Subject, moment: float) -> Past:
        """Return the records that matched at a moment, in seconds since 1970 (UTC)."""
        states: dict[RecordKey, tuple[str, Form | None]] = {}
        later: set[RecordKey] = set()
        async for change in self._walk(Subject(), None):
            if change.kind not in _RECORDS or change.kind != (subject.kind or change.kind):
                continue
            key = _key(change)
            if change.at <= moment:
                states[key] = (change.kind, change.after)
            elif key not in states and key not in later:
                later.add(key)
                states[key] = (change.kind, change.before)
        for record in self._present():
            key = RecordKey.of(record)
            if key not in states:  # it has not changed since before the history begins
                states[key] = (records.name_of(key.kind), records.encode(record))
        forms = [(kind, form) for kind, form in states.values() if form is not None and subject.matches(kind, form)]
        return Past(tuple(forms), moment >= await self.begins())

    def _present(self) -> list[Record]:
        intent = self._mirror.intent
        return [
            *intent.networks.values(),
            *intent.hosts.values(),
            *intent.blocks(),
            *intent.endpoints(),
            *intent.reservations(),
        ]

    async def _walk(self, subject: Subject, since: float | None) -> AsyncIterator[Change]:
        """Yield changes since a time, oldest first, that may match."""
        start = f"{keys.HISTORY}{_stamp(since)}" if since else None
        page = await self._store.page(keys.HISTORY, after_key=start)
        while True:
            for item in page.items:
                if all(text in item.value for text in subject.texts):
                    for change in _read(item):
                        yield change
            if not page.more:
                return
            page = await self._next(page)

    async def _next(self, page: Page) -> Page:
        return await self._store.page(keys.HISTORY, after_key=page.items[-1].key, revision=page.revision)


def _stamp(at: float) -> str:
    return f"{round(at * 1e6):017}"


def _seconds(fields: Fields) -> float:
    at = fields.value.get("at")
    return float(at) if isinstance(at, int | float) else 0.0


def _read(item: KeyValue) -> Iterator[Change]:
    fields = keys.decode(item.value)
    actor = fields.object("actor")
    by, at = Actor(actor.text("name"), actor.text("role")), _seconds(fields)
    place = item.key.removeprefix(keys.HISTORY)
    for index, change in enumerate(fields.objects("changes")):
        yield Change(
            f"{place}-{index:04}",
            item.mod_revision,
            at,
            by,
            change.text("kind"),
            change.object("before").value if change.has("before") else None,
            change.object("after").value if change.has("after") else None,
        )


def _key(change: Change) -> RecordKey:
    form = next(change.forms)
    return RecordKey.of(records.DECODERS[records.KINDS[change.kind]](Fields(form)))


def _hosts(kind: str, form: Form) -> Iterator[str]:
    holder = form.get("holder")
    where = holder if isinstance(holder, dict) else form
    found = (form.get("id"), form.get("name")) if kind == "host" else (where.get("host"),)
    return (text for text in found if isinstance(text, str))


def _containers(form: Form) -> tuple[Json, ...]:
    holder = form.get("holder")
    return (form.get("container_id"), holder.get("container_id") if isinstance(holder, dict) else None)


def _has_address(form: Form, wanted: IpAddress) -> bool:
    """Tell whether an object has an address, or is the block in which it lies."""
    addresses = form.get("addresses")
    if isinstance(addresses, list):
        return str(wanted) in addresses
    cidr = form.get("cidr")
    if isinstance(cidr, str):
        return wanted in _network(cidr)
    return form.get("address") == str(wanted)


def _network(cidr: str) -> IpNetwork:
    try:
        return ip_network(cidr)
    except ValueError:
        raise InvalidValue(f"{cidr!r} of the history is no range") from None
