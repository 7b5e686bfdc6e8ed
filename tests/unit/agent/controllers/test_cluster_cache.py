"""The cluster on disk: what an agent saves, what the next one reads, and that damage is named."""

import asyncio
import json
from contextlib import AsyncExitStack
from hashlib import blake2b
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlayd.agent.controllers import cluster_cache, cluster_form, wiring
from overlayd.agent.controllers.client import FEED_SILENCE
from overlayd.agent.controllers.cluster_cache import (
    ClusterCache,
    ClusterCacheWriter,
    KeptCluster,
    OldClusterFile,
    pause_after,
)
from overlayd.model.cluster import UNKNOWN, Cluster
from overlayd.model.errors import InvalidValue
from overlayd.model.host import Host
from overlayd.model.ids import Revision
from overlayd.model.network import Topology
from overlayd.wire.feed import FEED_VERSION, Bookmark, Delta, InSync, Snapshot
from tests.support.agents.loopback import controller, following, in_sync
from tests.support.controllers import clusters
from tests.support.lab.processes import eventually

pytestmark = pytest.mark.anyio

BLUE, GREEN, HOST = clusters.network("blue"), clusters.network("green"), clusters.host(1)
CACHED = clusters.cluster([BLUE, HOST], revision=7)


async def test_what_came_just_before_a_stop_is_kept(tmp_path: Path) -> None:
    cache = ClusterCache(tmp_path)
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
    cache = ClusterCache(tmp_path)
    async with controller() as server, following(server, cached=CACHED) as feed:
        writer = ClusterCacheWriter(cache, feed)
        await (await server.feeds.get()).send(Snapshot(Revision(9), (GREEN,)))
        writer.finish()
    assert cache.load() == Cluster()


async def test_changes_after_which_no_controller_said_in_sync_are_not_kept(tmp_path: Path) -> None:
    cache = ClusterCache(tmp_path)
    async with controller() as server, following(server, cached=CACHED) as feed:
        writer = ClusterCacheWriter(cache, feed)
        seen = feed.changes.count
        await (await server.feeds.get()).send(Delta(Revision(9), (GREEN,), ()))
        await feed.changes.wait(seen)
        assert "green" in feed.cluster.networks
        writer.finish()
    assert cache.load() == Cluster()


async def test_a_stop_with_nothing_new_writes_nothing(tmp_path: Path) -> None:
    cache = ClusterCache(tmp_path)
    async with controller() as server, following(server, cached=CACHED) as feed:
        writer = ClusterCacheWriter(cache, feed)
        await (await server.feeds.get()).send(InSync(Revision(9)))
        await in_sync(feed)
        writer.finish()
    assert cache.load() == Cluster()


@given(clusters.clusters())
def test_the_cluster_survives_a_restart(tmp_path_factory: pytest.TempPathFactory, known: Cluster) -> None:
    cache = ClusterCache(tmp_path_factory.mktemp("state"))
    cache.save(known, FEED_VERSION)
    assert cache.load() == known


@given(clusters.clusters())
def test_what_an_earlier_release_saved_is_read_once_and_replaced(
    tmp_path_factory: pytest.TempPathFactory, known: Cluster
) -> None:
    state = tmp_path_factory.mktemp("state")
    cache = ClusterCache(state)
    cache.save(Cluster(), FEED_VERSION)
    OldClusterFile(state / "cluster.json").save(known)  # by a release to which this host was downgraded for a while
    assert cache.load() == known
    cache.save(known, FEED_VERSION)
    assert [path.name for path in state.iterdir()] == ["cluster.cache"]
    assert cache.load() == known


def test_a_cluster_told_in_an_older_version_of_the_feed_is_known_and_told_anew(tmp_path: Path) -> None:
    known = clusters.example(Topology.ROUTED)
    cache = ClusterCache(tmp_path)
    cache.save(known, 1)
    assert cache.load() == known.changed(UNKNOWN)
    path = tmp_path / "cluster.json"
    OldClusterFile(path).save(known)
    content = json.loads(path.read_text())
    del content["feed"]  # as overlayd 0.1 wrote it
    path.write_text(json.dumps(content))
    assert cache.load() == known.changed(UNKNOWN)


def test_a_host_without_a_cache_knows_nothing(tmp_path: Path) -> None:
    assert ClusterCache(tmp_path).load() == Cluster()


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
def test_a_damaged_file_of_an_earlier_release_is_none_and_is_named(
    tmp_path: Path, content: bytes, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ClusterCache(tmp_path).save(CACHED, FEED_VERSION)
    path = tmp_path / "cluster.json"
    path.write_bytes(content)
    assert ClusterCache(tmp_path).load() == CACHED
    assert f"{path}{where}" in capsys.readouterr().out


@pytest.mark.parametrize(("host", "known"), [(HOST, CACHED), (clusters.host(2), Cluster())])
async def test_the_cache_of_another_host_is_none(tmp_path: Path, host: Host, known: Cluster) -> None:
    ClusterCache(tmp_path).save(CACHED, FEED_VERSION)
    (tmp_path / "host-id").write_text(host.id)  # the disk is a copy of the disk of host 1
    async with AsyncExitStack() as closing:
        parts = wiring.build(["http://192.0.2.9"], None, tmp_path, tuple, closing)
        assert parts.feed.cluster == known
    assert ClusterCache(tmp_path).load() == CACHED


@given(st.binary(max_size=200) | st.integers(0, 4000), st.integers(0, 7))
def test_a_cache_that_is_damaged_anywhere_is_no_cache_and_is_named(damage: bytes | int, bit: int) -> None:
    whole = cluster_form.encode(clusters.example(Topology.SWITCHED), FEED_VERSION)
    if isinstance(damage, bytes):
        content = damage
    elif bit == 0:
        content = whole[: damage % len(whole)]
    else:
        at = damage % len(whole)
        content = whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :]
    with pytest.raises(InvalidValue):
        cluster_form.decode(content)


def sealed(document: object) -> bytes:
    """Return a file with a right checksum, of a document that no agent writes."""
    body = json.dumps(document).encode()
    return b"overlayd cluster 3 %b\n" % blake2b(body, digest_size=16).hexdigest().encode() + body


HOSTS: dict[str, object] = {
    "id": ["host-1"],
    "number": [1],
    "name": ["node-1"],
    "address": [int(IPv4Address("192.0.2.1"))],
    "states": {},
}
DOCUMENT: dict[str, object] = {
    "feed": 2,
    "revision": 7,
    "lineage": None,
    "networks": [],
    "reservations": [],
    "hosts": HOSTS,
    "blocks": [],
    "endpoints": [],
}
BLOCKS: dict[str, object] = {"network": "blue", "address": [int(IPv4Address("10.0.0.0"))], "length": [24], "host": [0]}
ENDPOINTS: dict[str, object] = {
    "network": "blue",
    "container_id": ["web"],
    "interface": ["eth0"],
    "host": [0],
    "addresses": [[int(IPv4Address("10.0.0.2"))]],
    "mac": ["02:00:0a:20:00:02"],
    "sandbox": ["/run/netns/web"],
}


def test_what_is_well_formed_is_read() -> None:
    found = cluster_form.decode(sealed({**DOCUMENT, "blocks": [BLOCKS], "endpoints": [ENDPOINTS]}))
    assert [len(each) for each in (found.hosts, found.blocks, found.endpoints)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], None),
        ({}, "networks"),
        ({**DOCUMENT, "revision": "7"}, "revision"),
        ({**DOCUMENT, "lineage": "x"}, "lineage"),
        ({**DOCUMENT, "networks": [{}]}, "networks[0].name"),
        ({**DOCUMENT, "hosts": {**HOSTS, "number": ["1"]}}, "hosts.number"),
        ({**DOCUMENT, "hosts": {**HOSTS, "number": [True]}}, "hosts.number"),
        ({**DOCUMENT, "hosts": {**HOSTS, "number": [1.0]}}, "hosts.number"),
        ({**DOCUMENT, "hosts": {**HOSTS, "number": [64_001]}}, "number"),
        ({**DOCUMENT, "hosts": {**HOSTS, "number": []}}, None),
        ({**DOCUMENT, "hosts": {**HOSTS, "name": [""]}}, "name"),
        ({**DOCUMENT, "hosts": {**HOSTS, "address": [-1]}}, None),
        ({**DOCUMENT, "hosts": {**HOSTS, "address": [1 << 40]}}, None),
        ({**DOCUMENT, "hosts": {**HOSTS, "address": [1 << 200]}}, None),
        ({**DOCUMENT, "hosts": {**HOSTS, "address": [int(IPv4Address("127.0.0.1"))]}}, "address"),
        ({**DOCUMENT, "hosts": {**HOSTS, "states": {"1": "active"}}}, "hosts.states"),
        ({**DOCUMENT, "hosts": {**HOSTS, "states": {"x": "active"}}}, None),
        ({**DOCUMENT, "hosts": {**HOSTS, "states": {"0": "asleep"}}}, "hosts.states.0"),
        ({**DOCUMENT, "blocks": [{**BLOCKS, "network": "a b"}]}, "blocks[0].network"),
        ({**DOCUMENT, "blocks": [{**BLOCKS, "length": [33]}]}, None),
        ({**DOCUMENT, "blocks": [{**BLOCKS, "length": [4]}]}, None),
        ({**DOCUMENT, "blocks": [{**BLOCKS, "host": [1]}]}, "blocks[0].host"),
        ({**DOCUMENT, "blocks": [{**BLOCKS, "host": [-1]}]}, "blocks[0].host"),
        ({**DOCUMENT, "blocks": [{**BLOCKS, "host": ["a b"]}]}, "blocks[0].host"),
        ({**DOCUMENT, "blocks": [{**BLOCKS, "host": [None]}]}, "blocks[0].host"),
        ({**DOCUMENT, "endpoints": [{**ENDPOINTS, "addresses": [["10.0.0.2"]]}]}, "addresses"),
        ({**DOCUMENT, "endpoints": [{**ENDPOINTS, "addresses": [[]]}]}, "addresses"),
        ({**DOCUMENT, "endpoints": [{**ENDPOINTS, "mac": ["03:00:00:00:00:00"]}]}, "mac"),
        ({**DOCUMENT, "endpoints": [{**ENDPOINTS, "sandbox": [None]}]}, "endpoints[0].sandbox"),
    ],
)
def test_no_value_is_taken_that_the_model_does_not_have(document: object, field: str | None) -> None:
    with pytest.raises(InvalidValue) as refused:
        cluster_form.decode(sealed(document))
    assert refused.value.field == field


@pytest.mark.parametrize("version", ["4", "9" * 5000])  # int() refuses the second one
def test_what_a_newer_agent_wrote_is_no_cache(tmp_path: Path, version: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cluster.cache").write_text(f"overlayd cluster {version} x\n")
    assert ClusterCache(tmp_path).load() == Cluster()
    assert "was written by a newer overlayd" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["cluster.cache", "cluster.json"])
def test_a_cache_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(name)  # ELOOP stands for EMFILE, EACCES, EIO and all others
    with pytest.raises(OSError, match="symbolic links"):
        ClusterCache(tmp_path).load()


def test_a_cache_that_cannot_be_written_keeps_the_old_one(tmp_path: Path) -> None:
    cache = ClusterCache(tmp_path)
    cache.save(CACHED, FEED_VERSION)
    (tmp_path / ".cluster.cache.new").mkdir()  # in the way of the temporary file
    with pytest.raises(OSError, match=r"cluster\.cache\.new"):
        cache.save(Cluster(), FEED_VERSION)
    assert cache.load() == CACHED


async def test_the_revision_of_a_bookmark_is_written_some_time_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CACHE_INTERVAL", "REVISION_INTERVAL"):
        monkeypatch.setattr(cluster_cache, name, 0.01)
    cache = ClusterCache(tmp_path)
    async with controller() as server, following(server) as feed:
        writing = asyncio.create_task(ClusterCacheWriter(cache, feed).run())
        stream = await server.feeds.get()
        await stream.send(Snapshot(Revision(9), (BLUE,)), InSync(Revision(9)))
        await asyncio.to_thread(eventually, cache.path.exists, "it is written")
        await stream.send(Bookmark(Revision(12)))
        await asyncio.to_thread(eventually, lambda: cache.load().revision == 12, "the revision is written")
        writing.cancel()


@pytest.mark.parametrize("is_stopped", [True, False])
async def test_what_could_not_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_stopped: bool
) -> None:
    for name in ("CACHE_INTERVAL", "REVISION_INTERVAL"):
        monkeypatch.setattr(cluster_cache, name, 0.01)
    cache = ClusterCache(tmp_path)
    obstacle = tmp_path / ".cluster.cache.new"
    obstacle.mkdir()  # in the way of the temporary file, as a disk that is full
    async with controller() as server, following(server) as feed:
        writer = ClusterCacheWriter(cache, feed)
        writing = asyncio.create_task(writer.run())
        await (await server.feeds.get()).send(Snapshot(Revision(9), (BLUE,)), InSync(Revision(9)))
        await asyncio.to_thread(eventually, lambda: "cannot save" in capsys.readouterr().out, "a write fails")
        if is_stopped:
            writing.cancel()
            await asyncio.wait([writing])
        obstacle.rmdir()
        if is_stopped:
            writer.finish()
        # In less time than the agent follows a silent controller: that it gives it up is a change too.
        await asyncio.to_thread(eventually, cache.path.exists, "it is written", FEED_SILENCE / 2)
        writing.cancel()
    assert cache.load() == clusters.cluster([BLUE], revision=9)


@pytest.mark.parametrize(("written", "pause"), [(0.0, 1.0), (0.001, 1.0), (0.04, 40.0)])
def test_a_large_cluster_is_saved_less_often(written: float, pause: float) -> None:
    assert pause_after(written) == pytest.approx(pause)


def test_what_is_kept_of_lost_networks_has_the_form_of_earlier_releases(tmp_path: Path) -> None:
    KeptCluster(tmp_path).save(CACHED)
    assert json.loads((tmp_path / "kept.json").read_text())["v"] == 2
    assert KeptCluster(tmp_path).load() == CACHED
