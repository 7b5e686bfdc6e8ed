"""The feed of one host: a snapshot or what it missed, then every change as it comes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import structlog

from controller.clock import Clock
from controller.state import visibility
from controller.state.intent import IntentChange
from controller.state.mirror import Forgotten, Mirror
from controller.streams.connections import HostConnections
from controller.streams.feed_lines import FeedLines
from controller.streams.turns import Turns
from controller.streams.wake_queue import WakeQueue, slices
from overlayd.model.errors import AlreadyExists, Unavailable
from overlayd.model.ids import HostId, NetworkName, Revision
from overlayd.model.lineage import Lineage
from overlayd.wire.feed import Bookmark, Delta, FeedMessage, InSync, Snapshot

SNAPSHOT_MAX = 1000
"""The most records in one message of a snapshot."""

_BOOKMARK_DELAY = 0.1
"""Seconds that pass between a change and the first bookmark to the hosts that it does not concern."""

_BOOKMARKS = 400
"""Bookmarks a second, to all hosts together: most hosts answer one with a report, which costs many times as much. In a
cluster that changes all the time, the controller's work for hosts that no change concerns is bounded by this."""

_FEW = 8
"""How many feeds at a time are woken for what can wait, in less than a millisecond."""

_KEEP_ALIVE = 3.0
"""Seconds after which every feed sends something, and between two looks whether this controller follows its store."""

_log = structlog.get_logger()


class Deltas:
    """What follows for hosts at some position. Hosts with the same networks get the same: it is made once."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self._made: dict[tuple[Revision, frozenset[NetworkName], frozenset[NetworkName]], Delta | Bookmark] = {}
        self._made_at = Revision(0)

    def after(
        self, position: Revision, before: frozenset[NetworkName], after: frozenset[NetworkName]
    ) -> Delta | Bookmark | None:
        """Return the message that brings a host from a position to the latest revision, None when it is there.

        `before` are the networks that the host knows, `after` those that it must know. Raises `Forgotten`.
        """
        if self.mirror.intent_revision != self._made_at:
            self._made.clear()
            self._made_at = self.mirror.intent_revision
        made = self._made.get((position, before, after))
        if made is None:
            changes = self.mirror.since(position)
            if not changes:
                return None
            revision = changes[-1].revision
            puts, deletes = visibility.difference(self.mirror.intent, changes, before, after)
            made = Delta(revision, tuple(puts), tuple(deletes)) if puts or deletes else Bookmark(revision)
            self._made[position, before, after] = made
        return made


class Feed:
    """What one host has been sent, and what comes next.

    It keeps a position in the mirror's log and no queue: a slow reader gets the changes of several revisions at once,
    and one that falls off the log comes to the end of its feed.
    """

    def __init__(self, deltas: Deltas, host: HostId) -> None:
        self._deltas = deltas
        self._mirror = deltas.mirror
        self._host = host
        self._position = Revision(0)
        self._networks: frozenset[NetworkName] = frozenset()
        self._wake = asyncio.Event()
        self._is_expecting = False
        self._has_news = False
        self._must_speak = False
        self._is_stale = False
        self._is_ended = False

    def expect(self, revision: Revision) -> None:
        """Record that a revision concerns the host, and that none between the last one sent and this one did.

        So the host knows everything before this revision, and gets the same message as other hosts that do.
        """
        if not self._is_expecting and self._mirror.remembers(self._position):
            self._position = max(self._position, Revision(revision - 1))
        self._is_expecting = True

    def wake(self) -> None:
        """Let the feed send the new changes."""
        self._has_news = True
        self._wake.set()

    def remind(self) -> None:
        """Let the feed send the latest revision, even if nothing new concerns its host."""
        if not self._is_expecting and self._mirror.remembers(self._position):
            self._position, before = self._mirror.intent_revision, self._position
            self._must_speak |= self._position > before
            self._wake.set()
        else:
            self.wake()

    def keep_alive(self, *, stale: bool = False) -> None:
        """Let the feed send something even when nothing is new; `stale` when nothing new can come."""
        self._must_speak = True
        self._is_stale = stale
        self._wake.set()

    def end(self) -> None:
        """End the feed. The host opens another one and resumes where it is."""
        self._is_ended = True
        self._wake.set()

    async def messages(self, after: Revision | None) -> AsyncIterator[FeedMessage]:
        """Yield the messages for a host that knows everything up to `after` (None: nothing yet), then every change.

        Ends by `end`, or when the reader is too slow.
        """
        try:
            for message in self._begin(after):
                yield message
            while not self._is_ended:
                await self._wake.wait()
                self._wake.clear()
                following = self._next()
                if following is not None:
                    yield following
        except Forgotten:
            return

    def _begin(self, after: Revision | None) -> Iterator[FeedMessage]:
        missed = self._missed(after)
        if missed is None or after is None:
            self._advance_to(self._mirror.intent_revision, self._mirror.intent.networks_of(self._host))
            yield from self._snapshot()
        else:
            self._position = after
            self._networks = visibility.networks_before(self._mirror.intent, self._host, missed)
            following = self._advance()
            if isinstance(following, Delta):
                yield following
        lineage = self._mirror.lineage
        yield InSync(self._position, lineage=lineage.lineage if lineage else None)

    def _missed(self, after: Revision | None) -> list[IntentChange] | None:
        """Return the changes after a revision, None when the log no longer has them and a snapshot is needed."""
        try:
            return None if after is None else self._mirror.since(after)
        except Forgotten:
            return None

    def _snapshot(self) -> Iterator[Snapshot]:
        revision = self._position
        records = tuple(visibility.snapshot(self._mirror.intent, self._host))
        for start in range(0, max(len(records), 1), SNAPSHOT_MAX):
            yield Snapshot(revision, records[start : start + SNAPSHOT_MAX])

    def _next(self) -> Delta | Bookmark | None:
        """Return the changes since the feed was woken, else a keep-alive if one is due.

        A keep-alive repeats the revision that the host has, because the host would report a later one. It has a later
        one only before the log forgets the host's revision, as the host would need a snapshot then.
        """
        has_news, self._has_news = self._has_news, False
        must_speak, self._must_speak = self._must_speak, False
        must_move = must_speak and self._mirror.is_soon_forgotten(self._position)
        must_advance = has_news or must_move or (must_speak and self._is_expecting)
        following = self._advance() if must_advance else None
        if following is None and must_speak:
            return Bookmark(self._position, self._is_stale)
        return following

    def _advance(self) -> Delta | Bookmark | None:
        networks = self._mirror.intent.networks_of(self._host)
        following = self._deltas.after(self._position, self._networks, networks)
        if following is not None:
            self._advance_to(following.revision, networks)
        return following

    def _advance_to(self, revision: Revision, networks: frozenset[NetworkName]) -> None:
        self._position, self._networks, self._is_expecting = revision, networks, False


class Feeds:
    """The feeds that hosts have open at this controller, one for each host."""

    def __init__(self, mirror: Mirror, connections: HostConnections, turns: Turns, clock: Clock) -> None:
        self._mirror = mirror
        self._deltas = Deltas(mirror)
        self._connections = connections
        self._clock = clock
        self._open: dict[HostId, Feed] = {}
        self.lines = FeedLines()
        self._waking = WakeQueue(turns)
        self._changed = asyncio.Event()
        self._is_stale = False
        self._is_ending = False
        mirror.listen(self._on_change)

    async def admit(
        self, host: HostId, instance: str, after: Revision | None, lineage: Lineage | None = None
    ) -> Revision | None:
        """Return when a feed of a host that knows everything up to `after` of a lineage may be opened here.

        The result is the revision after which it may go on, None when it must get everything: revisions of another
        lineage mean nothing here. A host that names none can only mean the first lineage that a store had. A controller
        that is behind the host would take it back in time. Raises `AlreadyExists` when another instance of
        the host has registered since, `Unavailable` when this controller does not catch up with its store, or is
        stopping.
        """
        if self._is_ending:
            raise Unavailable("this controller is stopping")
        if after is not None and after > self._mirror.intent_revision:
            await self._mirror.verify()
        if self._mirror.instance(host) not in {None, instance}:
            raise AlreadyExists(f"another instance of host {host} has registered since", field="instance")
        record = self._mirror.lineage
        if record is None or lineage == record.lineage or (lineage is None and record.parent is None):
            return after
        return None

    @property
    def number(self) -> int:
        """How many are open."""
        return len(self._open)

    @contextmanager
    def open(self, host: HostId, instance: str) -> Iterator[Feed]:
        """Open a feed; the host counts as connected while it is. An earlier feed of the host ends."""
        if earlier := self._open.get(host):
            earlier.end()
        feed = Feed(self._deltas, host)
        if self._is_ending:
            feed.end()
        self._open[host] = feed
        self._connections.connect(host, instance)
        try:
            yield feed
        finally:
            if self._open.get(host) is feed:
                del self._open[host]
                self._connections.disconnect(host)

    def end(self) -> None:
        """End all feeds, and open no others that last."""
        self._is_ending = True
        for feed in self._open.values():
            feed.end()

    async def run(self) -> None:
        """Send bookmarks, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send_bookmarks(), name="feed-bookmarks")
            tasks.create_task(self._keep_alive(), name="feed-keep-alive")
            tasks.create_task(self._watch_store(), name="feed-store")

    async def _send_bookmarks(self) -> None:
        while True:
            await self._changed.wait()
            await self._clock.sleep(_BOOKMARK_DELAY)
            self._changed.clear()
            for number, feeds in enumerate(slices([*self._open.values()], _FEW)):
                if number:
                    await self._clock.sleep(_FEW / _BOOKMARKS)
                for feed in feeds:
                    feed.remind()

    async def _keep_alive(self) -> None:
        while True:
            begun = self._clock.now()
            # Spread over half the time, so that requests have their turn.
            groups = [*slices([*self._open.items()], _FEW)]
            for number, feeds in enumerate(groups):
                await self._until(begun + _KEEP_ALIVE / 2 * number / len(groups))
                for host, feed in feeds:
                    self._keep_one_alive(host, feed)
            await self._until(begun + _KEEP_ALIVE)

    async def _until(self, due: float) -> None:
        """Sleep until a time of the clock, not at all if it is past: on a busy controller each sleep lasts longer."""
        ahead = due - self._clock.now()
        if ahead > 0:
            await self._clock.sleep(ahead)

    def _keep_one_alive(self, host: HostId, feed: Feed) -> None:
        if self._open.get(host) is not feed:
            return  # closed since the round began
        if self._mirror.instance(host) in {None, self._connections.instance(host)}:
            feed.keep_alive(stale=self._is_stale)
        else:  # it registered again elsewhere, and this connection is a dead one
            feed.end()

    async def _watch_store(self) -> None:
        """Check whether this controller follows its store; while it does not, keep-alives tell the hosts."""
        while True:
            await self._clock.sleep(_KEEP_ALIVE)
            try:
                await self._mirror.verify()
                await self._mirror.verify_lineage()
            except Unavailable as error:
                if not self._is_stale:
                    _log.warning("cannot follow the store; hosts may change over", reason=str(error))
                self._is_stale = True
            else:
                self._is_stale = False

    def _on_change(self, change: IntentChange) -> None:
        self._changed.set()
        for host in visibility.leaving(change):
            if feed := self._open.get(host):
                feed.end()
        hosts = visibility.concerned(self._mirror.intent, change)
        feeds = [*self._open.values()] if hosts is None else [self._open[host] for host in hosts if host in self._open]
        for feed in feeds:
            feed.expect(change.revision)
        self._waking.add(feeds)
