"""Watching the records, for people's tools: what exists, and then every change."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from controller.clock import Clock
from controller.services.intent import Change, Intent
from controller.services.mirror import Forgotten, Mirror
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.errors import Compacted, Unavailable
from overlayd.model.host import Host
from overlayd.model.ids import NetworkName, Revision
from overlayd.model.network import Network
from overlayd.wire import records
from overlayd.wire.fields import Json

STREAMS_MAX = 2000
"""How many watches one controller serves at once."""

SNAPSHOT_MAX = 1000
"""The most records that are sent in one piece."""

_KEEP_ALIVE = 5.0
"""Seconds after which every watch sends something."""

_REMEMBERED = 64
"""For how many revisions the lines are kept: most watches are told the same at the same time."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records to tell of; None stands for any. Hosts are in no network."""

    kind: type[Record] | None
    network: NetworkName | None

    def admits(self, key: RecordKey) -> bool:
        """Tell whether a record is meant."""
        return self.kind in (None, key.kind) and self.network in (None, _network(key))


class Watch:
    """What one reader has been told, and what comes next.

    It keeps a position in the mirror's log and no queue; a reader that falls off the log comes to the end.
    """

    def __init__(self, watches: "Watches", wanted: Filter, after: Revision | None) -> None:
        self._watches = watches
        self._filter = wanted
        self._after = after
        self._wake = asyncio.Event()
        self._must_speak = False
        self._is_ended = False

    def wake(self, *, must_speak: bool = False) -> None:
        """Let the watch tell what is new, or at least something."""
        self._must_speak |= must_speak
        self._wake.set()

    def end(self) -> None:
        """End the watch."""
        self._is_ended = True
        self._wake.set()

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield the lines: what exists, unless the reader knows it already, an in-sync mark, and what changes."""
        mirror = self._watches.mirror
        position = mirror.intent_revision if self._after is None else self._after
        if self._after is None:
            for lines in _snapshot(mirror.intent, self._filter, position):
                yield lines
            yield _line({"type": "in-sync", "revision": position})
        try:
            while not self._is_ended:
                changes = mirror.since(position)
                told = [self._watches.lines_of(change, self._filter) for change in changes]
                position = changes[-1].revision if changes else position
                must_speak, self._must_speak = self._must_speak, False
                if any(told) or must_speak:
                    yield b"".join([*told, _line({"type": "bookmark", "revision": position})])
                await self._wake.wait()
                self._wake.clear()
        except Forgotten:
            return


class Watches:
    """The watches that are open at this controller."""

    def __init__(self, mirror: Mirror, clock: Clock) -> None:
        self.mirror = mirror
        self._clock = clock
        self._open: set[Watch] = set()
        self._lines: OrderedDict[Revision, list[tuple[RecordKey, bytes]]] = OrderedDict()
        mirror.listen(self._on_change)

    @property
    def number(self) -> int:
        """How many are open."""
        return len(self._open)

    def prepare(self, wanted: Filter, after: Revision | None) -> Watch:
        """Return a watch of what comes after a revision, or of everything from now on.

        Raises `Compacted` when the revision is forgotten, `Unavailable` when there are too many watches.
        """
        if len(self._open) >= STREAMS_MAX:
            raise Unavailable(f"{STREAMS_MAX} watches are open at this controller")
        if after is not None:
            try:
                self.mirror.since(after)
            except Forgotten:
                raise Compacted(f"changes after revision {after} are not known any more; list and watch anew") from None
        return Watch(self, wanted, after)

    @contextmanager
    def open(self, watch: Watch) -> Iterator[Watch]:
        """Wake a watch for as long as the context lasts."""
        self._open.add(watch)
        try:
            yield watch
        finally:
            self._open.discard(watch)

    def end(self) -> None:
        """End all watches."""
        for watch in self._open:
            watch.end()

    def lines_of(self, change: Change, wanted: Filter) -> bytes:
        """Return the lines about a change that a filter admits, made once for all watches."""
        made = self._lines.get(change.revision)
        if made is None:
            made = self._lines[change.revision] = [
                (each.key, _put(each.after, change.revision) if each.after else _delete(each.key, change.revision))
                for each in change.records
            ]
            if len(self._lines) > _REMEMBERED:
                self._lines.popitem(last=False)
        return b"".join(line for key, line in made if wanted.admits(key))

    async def run(self) -> None:
        """Let every watch say something now and then, until cancelled."""
        while True:
            await self._clock.sleep(_KEEP_ALIVE)
            for watch in self._open:
                watch.wake(must_speak=True)

    def _on_change(self, _: Change) -> None:
        for watch in self._open:
            watch.wake()


def _snapshot(intent: Intent, wanted: Filter, revision: Revision) -> Iterator[bytes]:
    everything: Iterable[Record] = (
        *intent.networks.values(),
        *intent.hosts.values(),
        *intent.blocks(),
        *intent.reservations(),
        *intent.endpoints(),
    )
    told = [record for record in everything if wanted.admits(RecordKey.of(record))]
    for start in range(0, len(told), SNAPSHOT_MAX):
        yield b"".join(_put(record, revision) for record in told[start : start + SNAPSHOT_MAX])


def _network(key: RecordKey) -> NetworkName | None:
    if key.kind is Host:
        return None
    return NetworkName(str(key.key)) if key.kind is Network else NetworkName(str(key.key[0]))


def _put(record: Record, revision: Revision) -> bytes:
    kind = records.name_of(type(record))
    return _line({"type": "put", "revision": revision, "kind": kind, "object": records.encode(record)})


def _delete(key: RecordKey, revision: Revision) -> bytes:
    return _line({"type": "delete", "revision": revision, **records.encode_key(key)})


def _line(message: dict[str, Json]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
