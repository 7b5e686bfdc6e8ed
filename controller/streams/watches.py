"""Watching the records, for people's tools: what exists, and then every change."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from controller.clock import Clock
from controller.state.intent import IntentChange
from controller.state.mirror import Forgotten, Mirror
from controller.streams import watch_lines
from controller.streams.turns import Turns
from controller.streams.wake_queue import WakeQueue
from controller.streams.watch_lines import PIECE_MAX, WatchFilter
from controller.streams.watch_snapshots import WatchSnapshots
from overlayd.model.errors import Compacted, Unavailable
from overlayd.model.ids import Revision

if TYPE_CHECKING:
    from overlayd.model.cluster import RecordKey

STREAMS_MAX = 2000
"""How many watches one controller serves at once."""

SNAPSHOT_TIME = 120.0
"""Seconds that a reader may take for what exists: a snapshot is kept in memory while it is read."""

_KEEP_ALIVE = 5.0
"""Seconds after which every watch sends something."""

_REMEMBERED = 64
"""For how many revisions the lines are kept: most watches get the same at the same time."""


class Watch:
    """What one reader has been sent, and what comes next.

    It keeps a position in the mirror's log and no queue; the watch of a reader that falls off the log ends.
    """

    def __init__(self, watches: "Watches", wanted: WatchFilter, after: Revision | None) -> None:
        self._watches = watches
        self._filter = wanted
        self._after = after
        self._wake = asyncio.Event()
        self._must_speak = False
        self._is_ended = False

    def wake(self) -> None:
        """Let the watch send the new changes."""
        self._wake.set()

    def must_speak(self) -> None:
        """Let the watch send a line when it is woken next, even when nothing is new."""
        self._must_speak = True

    def end(self) -> None:
        """End the watch."""
        self._is_ended = True
        self._wake.set()

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield the lines: what exists, unless the reader knows it already, an in-sync mark, and what changes."""
        try:
            if self._after is None:
                snapshot = self._watches.snapshots.take()
                position, deadline = snapshot.revision, self._watches.clock.now() + SNAPSHOT_TIME
                async for piece in snapshot.pieces(self._filter):
                    yield piece
                    if self._is_ended or self._watches.clock.now() > deadline:
                        return
                del snapshot  # the watch may last, and the snapshot need not
                yield watch_lines.in_sync(position)
            else:
                position = self._after
            async for piece in self._changes(position):
                yield piece
        except Forgotten:
            return

    async def _changes(self, position: Revision) -> AsyncIterator[bytes]:
        mirror = self._watches.mirror
        while not self._is_ended:
            lines, position = self._next(position)
            must_speak, self._must_speak = self._must_speak, False
            if lines or must_speak:
                yield lines + watch_lines.bookmark(position)
            if position < mirror.intent_revision:
                await asyncio.sleep(0)
            else:
                await self._wake.wait()
                self._wake.clear()

    def _next(self, position: Revision) -> tuple[bytes, Revision]:
        """Return lines about what comes after a position, not many more than a piece, and how far they lead."""
        lines: list[bytes] = []
        size = 0
        for change in self._watches.mirror.since(position, _REMEMBERED):
            lines.append(self._watches.lines_of(change, self._filter))
            position = change.revision
            size += len(lines[-1])
            if size >= PIECE_MAX:
                break
        return b"".join(lines), position


class Watches:
    """The watches that are open at this controller."""

    def __init__(self, mirror: Mirror, turns: Turns, clock: Clock) -> None:
        self.mirror = mirror
        self.clock = clock
        self.snapshots = WatchSnapshots(mirror, clock)
        self._open: set[Watch] = set()
        self._waking = WakeQueue(turns)
        self._is_ending = False
        self._lines: OrderedDict[Revision, list[tuple[RecordKey, bytes]]] = OrderedDict()
        mirror.listen(self._on_change)

    @property
    def number(self) -> int:
        """How many are open."""
        return len(self._open)

    async def prepare(self, wanted: WatchFilter, after: Revision | None) -> Watch:
        """Return a watch of what comes after a revision, or of everything from now on.

        Raises `Compacted` when the revision is forgotten, `Unavailable` when there are too many watches, or when this
        controller is stopping.
        """
        if self._is_ending:
            raise Unavailable("this controller is stopping")
        position = None if after is None else await self._position(after)
        if len(self._open) >= STREAMS_MAX:
            raise Unavailable(f"{STREAMS_MAX} watches are open at this controller")
        return Watch(self, wanted, position)

    async def _position(self, after: Revision) -> Revision:
        """Return the revision of the intent that a reader has when it has everything up to a revision of the store."""
        if after > self.mirror.revision:
            await self.mirror.verify()  # another controller may have named it
        position = after if after > self.mirror.revision else min(after, self.mirror.intent_revision)
        try:
            self.mirror.since(position, 0)
        except Forgotten:
            raise Compacted(f"changes after revision {after} are no longer known; list and watch again") from None
        return position

    @contextmanager
    def open(self, watch: Watch) -> Iterator[Watch]:
        """Wake a watch for as long as the context lasts."""
        if self._is_ending:
            watch.end()
        self._open.add(watch)
        try:
            yield watch
        finally:
            self._open.discard(watch)

    def end(self) -> None:
        """End all watches, and open no others that last."""
        self._is_ending = True
        for watch in self._open:
            watch.end()

    def lines_of(self, change: IntentChange, wanted: WatchFilter) -> bytes:
        """Return the lines about a change that a filter admits, made once for all watches."""
        made = self._lines.get(change.revision)
        if made is None:
            made = self._lines[change.revision] = [
                (each.key, watch_lines.put(each.after, change.revision))
                if each.after
                else (each.key, watch_lines.delete(each.key, change.revision))
                for each in change.records
            ]
            if len(self._lines) > _REMEMBERED:
                self._lines.popitem(last=False)
        return b"".join(line for key, line in made if wanted.admits(key))

    async def run(self) -> None:
        """Let every watch send a keep-alive regularly, until cancelled."""
        while True:
            await self.clock.sleep(_KEEP_ALIVE)
            self.snapshots.let_go()
            for watch in self._open:
                watch.must_speak()
            self._waking.add(self._open)

    def _on_change(self, _: IntentChange) -> None:
        self._waking.add(self._open)
