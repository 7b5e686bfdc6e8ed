"""The upkeep of the store while a controller serves: reads it at the start, notes its revision, and prunes it."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from controller.lifecycle.bootstrap import former_traces, refuse_empty
from controller.lifecycle.known_store import KnownStore
from controller.overlay import Overlay
from controller.past.pruning import Pruning
from controller.settings import ControllerSettings
from controller.store.port import Replaced, Store, StoreUnavailable
from controller.tls import StartRefused
from overlayd.model.errors import InvalidValue, Unavailable
from overlayd.model.ids import Revision

_HISTORY_KEPT = 100_000
"""Revisions that a compaction leaves."""

_COMPACTION_INTERVAL = 300.0
"""Seconds."""

_REMEMBERING_INTERVAL = 5.0
"""Seconds between two notes of how far the store is."""

_LOAD_INTERVAL = 1.0
"""Seconds between attempts to read a store that cannot be reached at the start."""

_START_TIME_MORE = 30_000_000
"""Microseconds that systemd gives a start from an attempt on, also beyond its TimeoutStartSec."""

_log = structlog.get_logger()


async def load(overlay: Overlay, store: Store, known: KnownStore, chosen: ControllerSettings) -> None:
    """Read the store as soon as it can be read; raise `StartRefused` when it is empty and should not be."""
    _thaw()
    waiting = False
    try:
        before = known.load()
    except (InvalidValue, OSError) as error:
        raise StartRefused(str(error)) from None
    while True:
        try:
            await refuse_empty(store, chosen.store, former_traces(chosen.known_store, chosen.own_authority))
            with _without_collector():
                await overlay.load(before)
        except Replaced:
            raise
        except StoreUnavailable as error:
            if not waiting:
                _log.warning("waiting for the store", error=str(error))
            waiting = True
            # A start that waits is no start that hangs (systemd's TimeoutStartSec).
            chosen.supervisor.tell(f"EXTEND_TIMEOUT_USEC={_START_TIME_MORE}", "STATUS=waiting for the store")
            await overlay.clock.sleep(_LOAD_INTERVAL)
        else:
            # Records refer to each other in no circle, so the collector of circles need not look through them: with a
            # thousand hosts that takes 0.15 s in which no request is served. No connection is open yet, which would be
            # left out too.
            gc.freeze()
            return


def _thaw() -> None:
    """Free what an earlier call left out of the collector: of a store that has become another one, all is read again.

    Its services refer to each other, so that only the collector frees them, and with them all that they have loaded.
    """
    if gc.get_freeze_count():
        gc.unfreeze()
        gc.collect()


@contextmanager
def _without_collector() -> Iterator[None]:
    """Collect no reference cycles inside: what is loaded has none, and the search takes a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def remember(overlay: Overlay, known: KnownStore) -> None:
    """Note the store's revision on disk, for the next start, until cancelled."""
    while True:
        if found := overlay.known():
            await asyncio.to_thread(known.note, found)
        await overlay.clock.sleep(_REMEMBERING_INTERVAL)


async def prune(store: Store, overlay: Overlay, pruning: Pruning) -> None:
    """Remove old revisions, expired tokens and old history from the store, until cancelled."""
    while True:
        try:
            await store.compact(Revision(await store.current_revision() - _HISTORY_KEPT))
            now = await overlay.time.advance()
            if now is not None:
                await overlay.tokens.purge(now)
                await pruning.prune(now)
        except Unavailable as error:
            _log.warning("not compacted", error=str(error))
        await overlay.clock.sleep(_COMPACTION_INTERVAL)
