"""The cluster on disk: what an agent saves, what the next one reads, and that damage is named."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given

from overlayd.agent.controllers.cluster_cache import ClusterCache, ClusterCacheWriter
from overlayd.model.cluster import UNKNOWN, Cluster
from overlayd.model.ids import Revision
from overlayd.model.network import Topology
from overlayd.wire.feed import FEED_VERSION, Delta, InSync, Snapshot
from tests.support.agents.loopback import controller, following, in_sync
from tests.support.controllers import clusters

pytestmark = pytest.mark.anyio

BLUE, GREEN, HOST = clusters.network("blue"), clusters.network("green"), clusters.host(1)
CACHED = clusters.cluster([BLUE, HOST], revision=7)


async def test_what_came_just_before_a_stop_is_kept(tmp_path: Path) -> None:
    cache = ClusterCache(tmp_path / "cluster.json")
    async with controller() as server, following(server) as feed:
        writer = ClusterCacheWriter(cache, feed)
        running = asyncio.create_task(writer.run())
        stream = await server.feeds.get()
        await stream.send(Snapshot(Revision(9), (BLUE,)), InSync(Revision(9)))
        await in_sync(feed)
        seen = feed.changes.count
        await stream.send(Delta(Revision(10), (GREEN,), ()))
        await feed.changes.wait(seen)
        running.cancel()
        writer.finish()
    assert cache.load() == clusters.cluster([BLUE, GREEN], revision=10)


async def test_a_start_that_heard_no_controller_leaves_the_cache_alone(tmp_path: Path) -> None:
    cache = ClusterCache(tmp_path / "cluster.json")
    async with controller() as server, following(server, cached=CACHED) as feed:
        writer = ClusterCacheWriter(cache, feed)
        await (await server.feeds.get()).send(Snapshot(Revision(9), (GREEN,)))
        writer.finish()
    assert cache.load() == Cluster()


async def test_changes_after_which_no_controller_said_in_sync_are_not_kept(tmp_path: Path) -> None:
    cache = ClusterCache(tmp_path / "cluster.json")
    async with controller() as server, following(server, cached=CACHED) as feed:
        writer = ClusterCacheWriter(cache, feed)
        seen = feed.changes.count
        await (await server.feeds.get()).send(Delta(Revision(9), (GREEN,), ()))
        await feed.changes.wait(seen)
        assert "green" in feed.cluster.networks
        writer.finish()
    assert cache.load() == Cluster()


async def test_a_stop_with_nothing_new_writes_nothing(tmp_path: Path) -> None:
    cache = ClusterCache(tmp_path / "cluster.json")
    async with controller() as server, following(server, cached=CACHED) as feed:
        writer = ClusterCacheWriter(cache, feed)
        await (await server.feeds.get()).send(InSync(Revision(9)))
        await in_sync(feed)
        writer.finish()
    assert cache.load() == Cluster()


@given(clusters.clusters())
def test_the_cluster_survives_a_restart(tmp_path_factory: pytest.TempPathFactory, known: Cluster) -> None:
    cache = ClusterCache(tmp_path_factory.mktemp("state") / "cluster.json")
    cache.save(known, FEED_VERSION)
    assert cache.load() == known


def test_a_cluster_told_in_an_older_version_of_the_feed_is_known_and_told_anew(tmp_path: Path) -> None:
    known = clusters.example(Topology.ROUTED)
    path = tmp_path / "cluster.json"
    cache = ClusterCache(path)
    cache.save(known, 1)
    assert cache.load() == known.changed(UNKNOWN)
    cache.save(known, FEED_VERSION)
    content = json.loads(path.read_text())
    del content["feed"]  # as overlayd 0.1 wrote it
    path.write_text(json.dumps(content))
    assert cache.load() == known.changed(UNKNOWN)


def test_a_host_without_a_cache_knows_nothing(tmp_path: Path) -> None:
    assert ClusterCache(tmp_path / "cluster.json").load() == Cluster()


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"", ""),
        (b"[" * 100_000, ""),
        (b'{"v": 3, "revision": 1, "records": []}', ".v"),
        (b'{"v": 1, "records": []}', ".revision"),
        (b'{"v": 1, "revision": 1, "records": {}}', ".records"),
        (
            b'{"v": 1, "revision": 1, "records": [{"kind": "block", "network": "blue", "host": "h", "cidr": "x"}]}',
            ".records[0].cidr",
        ),
    ],
)
def test_a_damaged_cache_is_no_cache_and_is_named(
    tmp_path: Path, content: bytes, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cluster.json"
    path.write_bytes(content)
    assert ClusterCache(path).load() == Cluster()
    assert f"{path}{where}" in capsys.readouterr().out


def test_a_cache_that_cannot_be_written_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "cluster.json"
    cache = ClusterCache(path)
    cache.save(clusters.cluster([clusters.network()]), FEED_VERSION)
    path.with_name(".cluster.json.new").mkdir()  # in the way of the temporary file
    with pytest.raises(OSError, match=r"cluster\.json\.new"):
        cache.save(Cluster(), FEED_VERSION)
    assert cache.load() == clusters.cluster([clusters.network()])
