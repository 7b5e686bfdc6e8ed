"""Keeping the last known cluster on disk, for a start while every controller is away."""

import asyncio
import threading
import time

import structlog

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.records.attachment_records import ClusterCache

_log = structlog.get_logger(__name__)

CACHE_INTERVAL = 1.0
"""Seconds between two writes of the cluster."""

REVISION_INTERVAL = 60.0
"""Seconds between two writes of a cluster in which only the revision has changed."""


class Caching:
    """Saves what the feed brings, and never what a cached start began with.

    A revision that changes nothing here is worth less than the work: a feed can resume from an earlier one.
    """

    def __init__(self, cache: ClusterCache, feed: ClusterFeed) -> None:
        self._cache = cache
        self._feed = feed
        self._saved = feed.cluster
        self._writing = threading.Lock()

    async def run(self) -> None:
        """Save the cluster when it has changed, at most once in `CACHE_INTERVAL`."""
        seen, until = 0, time.monotonic() + REVISION_INTERVAL
        while True:
            seen = await self._feed.changes.wait(seen)
            if self._is_behind or (self._feed.in_sync and time.monotonic() > until):
                until = time.monotonic() + REVISION_INTERVAL
                await asyncio.to_thread(self._save)
            await asyncio.sleep(CACHE_INTERVAL)

    def finish(self) -> None:
        """Save what came last, when nothing more comes."""
        if self._is_behind:
            self._save()

    @property
    def _is_behind(self) -> bool:
        return self._feed.in_sync and not self._feed.cluster.has_records_of(self._saved)

    def _save(self) -> None:
        with self._writing:  # a stop does not interrupt the thread that writes
            self._saved = self._feed.cluster
            try:
                self._cache.save(self._saved, self._feed.version)
            except OSError as error:
                _log.warning(
                    "cannot save the cluster: a start without a controller would begin with an older one",
                    problem=str(error),
                )
