"""What of the cluster is on disk when an agent stops."""

import asyncio
from pathlib import Path

import pytest

from overlayd.agent.controllers.cluster_cache import Caching
from overlayd.agent.records.attachment_records import ClusterCache
from overlayd.model.cluster import Cluster
from overlayd.model.ids import Revision
from overlayd.wire.feed import Delta, InSync, Snapshot
from tests.support.agents.loopback import controller, following, in_sync
from tests.support.controllers import clusters

pytestmark = pytest.mark.anyio

BLUE, GREEN, HOST = clusters.network("blue"), clusters.network("green"), clusters.host(1)
CACHED = clusters.cluster([BLUE, HOST], revision=7)


async def test_what_came_just_before_a_stop_is_kept(tmp_path: Path) -> None:
    cache = ClusterCache(tmp_path / "cluster.json")
    async with controller() as server, following(server) as feed:
        caching = Caching(cache, feed)
        running = asyncio.create_task(caching.run())
        stream = await server.feeds.get()
        await stream.send(Snapshot(Revision(9), (BLUE,)), InSync(Revision(9)))
        await in_sync(feed)
        seen = feed.changes.count
        await stream.send(Delta(Revision(10), (GREEN,), ()))
        await feed.changes.wait(seen)
        running.cancel()
        caching.finish()
    assert cache.load() == clusters.cluster([BLUE, GREEN], revision=10)


async def test_a_start_that_heard_no_controller_leaves_the_cache_alone(tmp_path: Path) -> None:
    cache = ClusterCache(tmp_path / "cluster.json")
    async with controller() as server, following(server, cached=CACHED) as feed:
        caching = Caching(cache, feed)
        await (await server.feeds.get()).send(Snapshot(Revision(9), (GREEN,)))
        caching.finish()
    assert cache.load() == Cluster()


async def test_changes_after_which_no_controller_said_in_sync_are_not_kept(tmp_path: Path) -> None:
    cache = ClusterCache(tmp_path / "cluster.json")
    async with controller() as server, following(server, cached=CACHED) as feed:
        caching = Caching(cache, feed)
        seen = feed.changes.count
        await (await server.feeds.get()).send(Delta(Revision(9), (GREEN,), ()))
        await feed.changes.wait(seen)
        assert "green" in feed.cluster.networks
        caching.finish()
    assert cache.load() == Cluster()


async def test_a_stop_with_nothing_new_writes_nothing(tmp_path: Path) -> None:
    cache = ClusterCache(tmp_path / "cluster.json")
    async with controller() as server, following(server, cached=CACHED) as feed:
        caching = Caching(cache, feed)
        await (await server.feeds.get()).send(InSync(Revision(9)))
        await in_sync(feed)
        caching.finish()
    assert cache.load() == Cluster()
