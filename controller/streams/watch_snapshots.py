"""Everything that exists, for watches that begin: made once for all that begin within some seconds."""

import asyncio
from collections.abc import AsyncIterator

from controller.clock import Clock
from controller.state.intent import Intent
from controller.state.mirror import Forgotten, Mirror
from controller.streams import watch_lines
from controller.streams.watch_lines import PIECE_MAX, WatchFilter
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.ids import Revision

AGE_MAX = 5.0
"""Seconds for which a snapshot is given to watches that begin; what has changed since follows it."""

_BREATH = 1000
"""How many records are looked through before others have their turn."""


class WatchSnapshot:
    """Every record as of one revision, and the lines about them."""

    def __init__(self, intent: Intent, revision: Revision, made: float) -> None:
        self.revision = revision
        self.made = made
        self._records: tuple[Record, ...] = (
            *intent.networks.values(),
            *intent.hosts.values(),
            *intent.blocks(),
            *intent.reservations(),
            *intent.endpoints(),
        )
        self._lines: dict[int, bytes] | None = {}

    def retire(self) -> None:
        """Keep no more lines: few read this one still."""
        self._lines = None

    async def pieces(self, wanted: WatchFilter) -> AsyncIterator[bytes]:
        """Yield the lines about the records that a filter admits."""
        piece: list[bytes] = []
        size = 0
        for number, record in enumerate(self._records, 1):
            if wanted.admits(RecordKey.of(record)):
                piece.append(self._line(number, record))
                size += len(piece[-1])
            if size >= PIECE_MAX:
                yield b"".join(piece)
                piece, size = [], 0
            if number % _BREATH == 0:
                await asyncio.sleep(0)
        if piece:
            yield b"".join(piece)

    def _line(self, number: int, record: Record) -> bytes:
        line = self._lines.get(number) if self._lines is not None else None
        if line is None:
            line = watch_lines.put(record, self.revision)
            if self._lines is not None:
                self._lines[number] = line
        return line


class WatchSnapshots:
    """The latest snapshot, while it may be given to a watch."""

    def __init__(self, mirror: Mirror, clock: Clock) -> None:
        self._mirror = mirror
        self._clock = clock
        self._latest: WatchSnapshot | None = None

    def take(self) -> WatchSnapshot:
        """Return a snapshot that is young, and after which everything is known that changed."""
        self.let_go()
        if self._latest is None or not self._is_remembered(self._latest):
            self._latest = WatchSnapshot(self._mirror.intent, self._mirror.intent_revision, self._clock.now())
        return self._latest

    def let_go(self) -> None:
        """Forget the snapshot that is too old for a watch that begins."""
        if self._latest and self._clock.now() - self._latest.made >= AGE_MAX:
            self._latest.retire()
            self._latest = None

    def _is_remembered(self, snapshot: WatchSnapshot) -> bool:
        try:
            self._mirror.since(snapshot.revision, 0)
        except Forgotten:
            return False
        return True
