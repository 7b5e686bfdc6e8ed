"""The image of the store that this controller works from, kept by a list and a watch.

It may be behind the store, but is always consistent: the changes of a revision are applied together.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from itertools import count

import structlog

from controller.clock import Clock
from controller.identity.tokens import TokenRecord
from controller.state import keys, lineages, token_records
from controller.state.decoded_store import DecodedStore
from controller.state.host_presence import HostPresence
from controller.state.intent import Intent, IntentChange
from controller.state.lineages import LineageRecord
from controller.state.occupancy import ClusterOccupancy
from controller.store.port import (
    Compare,
    PutKey,
    Replaced,
    RevisionCompacted,
    Store,
    StoreUnavailable,
    Unmodified,
)
from controller.throttle import Throttle
from overlayd.model.cluster import Record
from overlayd.model.errors import Unavailable
from overlayd.model.ids import HostId, Revision
from overlayd.wire import records
from overlayd.wire.credentials import TokenId
from overlayd.wire.fields import Json

_CATCH_UP = 5.0
"""Seconds after which a mirror that does not follow its store is called unavailable."""

_LOG_RECORDS_MAX = 100_000
"""How many changes of records the log holds: one revision may have a hundred of them."""

_RETRY_INTERVAL = 0.5
"""Seconds between attempts to watch a store that cannot be read."""

_log = structlog.get_logger()


class Forgotten(Exception):
    """The log does not reach back to the revision, or this controller never had it."""


class Mirror:
    """An image, the log of its `log_max` last changes of intent, and the listeners to call at the next one."""

    def __init__(self, store: Store, clock: Clock, log_max: int) -> None:
        self._store = store
        self._clock = clock
        self._log_max = log_max
        self._image = DecodedStore()
        self._log: deque[IntentChange] = deque()
        self._log_records = 0
        self._log_start = Revision(0)
        self._advanced = asyncio.Event()
        self._awaited: list[tuple[Revision, int, asyncio.Future[None]]] = []
        self._order = count()
        self._looking = asyncio.Lock()
        self._looks = 0
        self._looked = 0
        self._failure: str | None = None
        self._listeners: list[Callable[[IntentChange], None]] = []
        self._lineage: LineageRecord | None = None
        self._replaced = asyncio.Event()

    @property
    def intent(self) -> Intent:
        return self._image.intent

    @property
    def tokens(self) -> Mapping[TokenId, TokenRecord]:
        return self._image.tokens

    def credential(self, host: HostId) -> TokenRecord | None:
        """Return the access token of a host, None when it has none."""
        return self._image.credential(host)

    @property
    def occupancy(self) -> ClusterOccupancy:
        """What is given out and what is free."""
        return self._image.occupancy

    @property
    def revision(self) -> Revision:
        """The revision of the store that the mirror has come to."""
        return self._image.revision

    @property
    def lineage(self) -> LineageRecord | None:
        """The lineage of the store, None when it has none."""
        return self._image.lineage

    @property
    def statements(self) -> Mapping[HostId, str]:
        """In which lineage each host has said what it uses."""
        return self._image.statements

    @property
    def intent_revision(self) -> Revision:
        """The revision that changed a record last."""
        return self.mod_revision(keys.INTENT)

    def mod_revision(self, key: str) -> Revision:
        """Return the revision that wrote a key last, 0 when the key does not exist."""
        return self._image.mod_revision(key)

    def record(self, key: str) -> Record | None:
        """Return the record that a key of the store holds, None when it holds none."""
        return self._image.record(key)

    def put(self, record: Record) -> PutKey:
        """Return the write of a record that keeps what other versions of the controller know of it."""
        key = keys.of(record)
        return PutKey(key, keys.encode_record(record, self._image.unknown(key)))

    def put_token(self, record: TokenRecord) -> PutKey:
        """Return the write of a token, otherwise as `put`."""
        key = keys.token(record.id)
        return PutKey(key, token_records.encode(record, self._image.unknown(key)))

    def form(self, key: str) -> dict[str, Json] | None:
        """Return a record as it is stored, without its version, None when the key holds none."""
        record = self.record(key)
        return self._image.unknown(key).added_to(records.encode(record)) if record else None

    def presence(self, host: HostId) -> HostPresence | None:
        """Return the latest presence of a host at any controller, None when it is not connected."""
        return self._image.presence(host)

    def instance(self, host: HostId) -> str | None:
        """Return the instance of a host's agent that registered last, None when it is not known."""
        return self._image.instances.get(host)

    def since(self, after: Revision, limit: int | None = None) -> list[IntentChange]:
        """Return the changes of intent after a revision, or the first `limit`, oldest first; raise `Forgotten`."""
        if not self.remembers(after) or after > self.intent_revision:
            raise Forgotten
        start = bisect_right(self._log, after, key=lambda change: change.revision)
        stop = len(self._log) if limit is None else min(start + limit, len(self._log))
        return [self._log[index] for index in range(start, stop)]

    def remembers(self, after: Revision) -> bool:
        """Return whether the log has every change of intent after a revision."""
        return self._log_start <= after

    def is_soon_forgotten(self, revision: Revision) -> bool:
        """Return whether the log, more than half full, has the changes after a revision in its older half."""
        is_filling = 2 * len(self._log) > self._log_max or 2 * self._log_records > _LOG_RECORDS_MAX
        return is_filling and revision < self._log[len(self._log) // 2].revision

    def listen(self, listener: Callable[[IntentChange], None]) -> None:
        """Call `listener` after each change of intent, and with an empty change when all may have changed."""
        self._listeners.append(listener)

    async def reached(self, revision: Revision) -> None:
        """Return when the mirror shows a revision; raise `Unavailable` when it does not for seconds."""
        if self.revision >= revision:
            return
        # Each waits for its own revision: to wake many for every one costs more than the writes that they wait for.
        shown: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._awaited, (revision, next(self._order), shown))
        try:
            async with asyncio.timeout(_CATCH_UP):
                await shown
        except TimeoutError:
            raise Unavailable("this controller cannot follow its store") from None

    async def advance(self) -> None:
        """Return when the store has changed again."""
        await self._advanced.wait()

    async def overtaken(self, compares: Iterable[Compare | Unmodified], revision: Revision) -> None:
        """Return when the mirror shows why a transaction failed: one of these compares conflicted at `revision`.

        The mirror may never reach `revision`: other users of the store also raise its revision, and their keys are not
        watched. Raises `Unavailable` when the mirror shows no reason for seconds.
        """
        keys_of_it = {each.key: each.mod_revision for each in compares if isinstance(each, Compare)}
        try:
            async with asyncio.timeout(_CATCH_UP):
                while self.revision < revision:
                    if any(self.mod_revision(key) != compared for key, compared in keys_of_it.items()):
                        return
                    await self._advanced.wait()
        except TimeoutError:
            raise Unavailable("this controller cannot follow its store") from None

    async def replaced(self) -> str:
        """Wait until the store has another lineage, so that this mirror is invalid; return the reason."""
        await self._replaced.wait()
        return "the store has another lineage: it was restored, or found to be older than what hosts know"

    async def verify_lineage(self) -> None:
        """Check whether the store has another lineage. Raises `StoreUnavailable`.

        A watch does not report that when the store has gone back to an earlier revision than the mirror has.
        """
        stored = await self._store.get(keys.LINEAGE)
        self._compare_lineage(lineages.decode(stored.value) if stored else None)

    async def stored_intent_revision(self) -> Revision:
        """Return the intent revision as the store has it now."""
        found = await self._store.get(keys.INTENT)
        return found.mod_revision if found else Revision(0)

    async def stored_revision(self) -> Revision:
        """Return the revision of the store now."""
        return await self._store.current_revision()

    async def verify(self) -> None:
        """Return when the mirror shows all that was in the store at the time of the call.

        Raises `Unavailable` when the store cannot be read in seconds, or the mirror does not follow it. Those who wait
        at the same time share one look at the store, which begins after all of them have asked.
        """
        look = self._looks + 1  # the next one to begin; one that is under way may have seen less
        async with self._looking:
            if self._looked < look:
                self._looks += 1
                begun = self._looks
                self._failure = await self._look()
                self._looked = begun
            if self._failure:
                raise Unavailable(self._failure)

    async def _look(self) -> str | None:
        """Return why the mirror does not show what the store holds now, None when it does."""
        try:
            async with asyncio.timeout(_CATCH_UP):
                await self.reached(await self.stored_intent_revision())
        except TimeoutError:
            return "this controller cannot read its store"
        except Unavailable as error:
            return error.detail
        return None

    async def load(self) -> None:
        """Read everything again, at one revision. The log begins again too."""
        image = DecodedStore()
        page = await self._store.page(keys.PREFIX)
        at = page.revision
        while True:
            for item in page.items:
                image.load(item)
            if not page.more:
                break
            page = await self._store.page(keys.PREFIX, after_key=page.items[-1].key, revision=at)
        image.revision = at
        self._image = image
        self._lineage = self._lineage or image.lineage
        self._compare_lineage(image.lineage)
        self._log.clear()
        self._log_records = 0
        self._log_start = self.intent_revision
        self._announce(IntentChange(at, ()))

    async def run(self) -> None:
        """Follow the store after `load`, until cancelled, or until it is another one."""
        is_whole, unavailable = True, Throttle()
        while True:
            try:
                if not is_whole:
                    await self.load()
                    is_whole = True
                async for changes in self._store.watch(keys.PREFIX, self.revision):
                    self._take(self._image.apply(changes))
                    self._compare_lineage(self._image.lineage)
            except RevisionCompacted:
                _log.warning("mirror compacted", revision=self.revision)
                is_whole = False
            except Replaced:
                return  # the store's own `run` raises it too
            except StoreUnavailable as error:
                if count := unavailable.count(self._clock.now()):
                    _log.warning("store unavailable", error=str(error), count=count)
                await self._clock.sleep(_RETRY_INTERVAL)

    def _compare_lineage(self, found: LineageRecord | None) -> None:
        known = self._lineage
        if known and (found is None or found.lineage != known.lineage):
            self._replaced.set()

    def _take(self, change: IntentChange) -> None:
        if change.revision == self.intent_revision:
            self._log.append(change)
            self._log_records += len(change.records)
            while len(self._log) > self._log_max or self._log_records > _LOG_RECORDS_MAX:
                forgotten = self._log.popleft()
                self._log_records -= len(forgotten.records)
                self._log_start = forgotten.revision
            self._announce(change)
        else:
            self._wake()

    def _announce(self, change: IntentChange) -> None:
        self._wake()
        for listener in self._listeners:
            listener(change)

    def _wake(self) -> None:
        while self._awaited and self._awaited[0][0] <= self.revision:
            _, _, shown = heappop(self._awaited)
            if not shown.done():
                shown.set_result(None)
        self._advanced.set()
        self._advanced = asyncio.Event()
