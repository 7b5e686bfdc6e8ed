"""The last known cluster on disk, for a start while no controller answers."""

import asyncio
import contextlib
import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import structlog

from overlayd.agent.controllers import cluster_form
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.runtime.logs import Complaint
from overlayd.agent.runtime.versioned_file import read_versioned
from overlayd.configuration.files import exists, read_regular, write_atomically
from overlayd.model.cluster import UNKNOWN, Cluster
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import HostId, Revision
from overlayd.model.lineage import parse_lineage
from overlayd.wire import records
from overlayd.wire.feed import FEED_VERSION

_log = structlog.get_logger(__name__)

_UNREADABLE = "the cached cluster cannot be read; waiting for a controller"

_SIZE_MAX = 1 << 30
"""Bytes of the cached cluster; ten thousand hosts with their blocks take some million."""

_OLD_VERSION = 2
"""In version 1 an endpoint had one `address`. Later ones have a form and a file of their own (`cluster_form`)."""

CACHE_INTERVAL = 1.0
"""Seconds between two writes of the cluster, at least."""

CACHE_SHARE = 0.001
"""The part of a core that writes may take in a cluster that changes all the time: each writes the whole cluster."""

REVISION_INTERVAL = 60.0
"""Seconds between two writes of a cluster in which only the revision has changed."""


class ClusterCache:
    """The last cluster that the feed declared in sync, for a start while no controller can be reached.

    Earlier releases keep theirs in `cluster.json`, which the next write replaces. If there is one, an earlier release
    has run since, and it is the later cluster. After a downgrade such a release finds none, and waits for a controller.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "cluster.cache"
        self._old = OldClusterFile(state_dir / "cluster.json")

    def load(self) -> Cluster:
        """Return the cached cluster, or an empty one, which the feed fills, when there is none or its file is damaged.

        Raises `OSError` when a file cannot be read, whatever it may hold.
        """
        return self._old.load() or self._load() or Cluster()

    def of_host(self, host: HostId) -> Cluster:
        """Return what `load` does, or an empty cluster when the cached one lacks this host, as it belongs to another.

        That happens when a machine was copied from the disk of another one and got an id of its own. If the feed
        continued from the cached revision, this host would never learn of deletions in the other host's networks.
        """
        found = self.load()
        if host in found.hosts:
            return found
        if found.hosts:
            _log.warning("the cached cluster is of another host; waiting for a controller", path=str(self.path))
        return Cluster()

    def _load(self) -> Cluster | None:
        try:
            return cluster_form.decode(read_regular(self.path, _SIZE_MAX))
        except FileNotFoundError:
            return None
        except InvalidValue as error:
            _log.warning(_UNREADABLE, problem=f"{self.path}: {error}")
            return None

    def save(self, cluster: Cluster, feed_version: int) -> None:
        """Replace the cached cluster, from a version of the feed; raise `OSError` when it cannot be written."""
        write_atomically(self.path, cluster_form.encode(cluster, feed_version))
        self._old.remove()


class OldClusterFile:
    """A cluster as a JSON object for each record, in the form that earlier releases read and write."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Cluster | None:
        """Return the cluster, None when there is no file or it is damaged; raise `OSError` when it cannot be read.

        A cluster from an older version of the feed gets no revision: this version may have more records of it.
        """
        if not exists(self._path):
            return None
        try:
            fields = read_versioned(self._path, _SIZE_MAX, _OLD_VERSION)
            puts = [records.decode_tagged(record) for record in fields.objects("records")]
            revision = Revision(fields.number("revision"))
            feed_version = fields.number("feed") if fields.has("feed") else 1
            lineage = parse_lineage(fields.text("lineage"), fields.at("lineage")) if fields.has("lineage") else None
            return replace(
                Cluster().changed(revision if feed_version == FEED_VERSION else UNKNOWN, puts), lineage=lineage
            )
        except InvalidValue as error:
            _log.warning(_UNREADABLE, problem=str(error))
            return None

    def save(self, cluster: Cluster) -> None:
        """Replace the cluster; raise `OSError` when it cannot be written."""
        content = {
            "v": _OLD_VERSION,
            "feed": FEED_VERSION,
            "revision": cluster.revision,
            "lineage": str(cluster.lineage) if cluster.lineage else None,
            "records": [records.encode_tagged(record) for record in cluster.records],
        }
        write_atomically(self._path, json.dumps(content).encode())

    def remove(self) -> None:
        """Remove the file if there is one; raise `OSError`."""
        self._path.unlink(missing_ok=True)


class KeptCluster:
    """What containers of this host use of networks that the controllers lost.

    It is small, seldom there, and nothing replaces it: so it stays in the form that earlier releases read too.
    """

    def __init__(self, state_dir: Path) -> None:
        self._file = OldClusterFile(state_dir / "kept.json")

    def load(self) -> Cluster:
        """Return the stored cluster; raise `OSError` when the file cannot be read."""
        return self._file.load() or Cluster()

    def save(self, kept: Cluster) -> None:
        """Keep this from now on; log a failure."""
        try:
            self._file.save(kept)
        except OSError as error:
            _log.warning("cannot save what containers have of networks that are lost", problem=str(error))


def pause_after(written: float) -> float:
    """Return the seconds until the next write, after one that took `written` seconds of processor time."""
    return max(CACHE_INTERVAL, written / CACHE_SHARE)


class ClusterCacheWriter:
    """Saves the cluster that the feed brings, and never the cached one that a start began with.

    A new revision without other changes is saved seldom: the feed can resume from an earlier one.
    """

    def __init__(self, cache: ClusterCache, feed: ClusterFeed) -> None:
        self._cache = cache
        self._feed = feed
        self._saved = feed.cluster
        self._has_failed = False
        self._failure = Complaint(
            "cannot save the cluster: a start without a controller would begin with an older one; trying again"
        )
        self._writing = threading.Lock()

    async def run(self) -> None:
        """Save the cluster when it has changed, but no more often than `pause_after` says.

        What could not be saved is tried again.
        """
        seen, until = 0, time.monotonic() + REVISION_INTERVAL
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REVISION_INTERVAL):  # bookmarks alone do not wake it
                    seen = await self._feed.changes.wait(seen)
            if self._is_behind or (self._has_later_revision and time.monotonic() > until):
                until = time.monotonic() + REVISION_INTERVAL
                await asyncio.sleep(pause_after(await asyncio.to_thread(self._save)))
            else:
                await asyncio.sleep(CACHE_INTERVAL)

    def finish(self) -> None:
        """Save the last cluster, when the feed has ended."""
        if self._is_behind:
            self._save()

    @property
    def _has_later_revision(self) -> bool:
        return self._feed.in_sync and self._feed.cluster.revision != self._saved.revision

    @property
    def _is_behind(self) -> bool:
        return self._feed.in_sync and not self._feed.cluster.has_records_of(self._saved)

    def _save(self) -> float:
        """Save the cluster; return how many seconds of the processor that took."""
        with self._writing:  # a stop does not interrupt the thread that writes
            began = time.thread_time()
            before, self._saved = self._saved, self._feed.cluster
            try:
                self._cache.save(self._saved, self._feed.version)
            except OSError as error:
                self._saved, self._has_failed = before, True
                self._failure.because(str(error))
            else:
                self._has_failed = False
                self._failure.over()
            return time.thread_time() - began
