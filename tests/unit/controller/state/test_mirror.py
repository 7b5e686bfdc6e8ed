import asyncio
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.journal.actor import BY_CONTROLLER
from controller.state.mirror import Forgotten, Mirror
from controller.store.port import PAGE_MAX, PutKey, Transaction
from controller.streams.feed import Deltas, Feed
from overlayd.model.cluster import Cluster, Record
from overlayd.model.ids import Revision
from overlayd.wire.feed import InSync, Snapshot
from tests.support.controllers.overlays import H1, controllers, make_host, make_network, whole_cluster

pytestmark = pytest.mark.anyio


def shown(mirror: Mirror) -> Cluster:
    intent = mirror.intent
    records: list[Record] = [*intent.networks.values(), *intent.hosts.values(), *intent.blocks(), *intent.endpoints()]
    return Cluster().changed(mirror.intent_revision, records)


async def test_a_mirror_that_slept_through_a_compaction_reads_everything_anew(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        sleepy = Mirror(store, SystemClock(), log_max=100)
        await sleepy.load()
        reader = Feed(Deltas(sleepy), H1)
        messages = reader.messages(None)
        assert [type(await anext(messages)) for _ in range(2)] == [Snapshot, InSync]
        for number in range(2, 6):
            await make_host(overlay, number)
        await store.compact(overlay.mirror.revision)
        await make_network(overlay)
        following = asyncio.create_task(sleepy.run())
        await sleepy.reached(overlay.mirror.revision)
        assert shown(sleepy) == await whole_cluster(store)
        reader.wake()
        assert [message async for message in messages] == []  # it must begin with a snapshot again
        following.cancel()


async def test_a_store_larger_than_a_page_is_read_whole(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        for start in range(0, PAGE_MAX + 100, 100):
            ops = tuple(PutKey(f"/overlayd/v1/aaa/{number:05}", b"") for number in range(start, start + 100))
            await store.commit(Transaction((), ops))
        fresh = Mirror(store, SystemClock(), log_max=100)
        await fresh.load()
        assert shown(fresh) == await whole_cluster(store)
        assert len(fresh.intent.hosts) == 1
        assert fresh.intent_revision == overlay.mirror.intent_revision < fresh.revision


async def test_the_log_answers_for_the_revisions_it_has(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        mirror = Mirror(store, SystemClock(), log_max=3)
        await mirror.load()
        following = asyncio.create_task(mirror.run())
        revisions = [
            (await overlay.hosts.register(BY_CONTROLLER, H1, f"name {n}", host.address, "i")).revision
            for n, host in enumerate([await make_host(overlay, 1)] * 5)
        ]
        await mirror.reached(revisions[-1])
        assert [change.revision for change in mirror.since(revisions[-4])] == revisions[-3:]
        assert mirror.since(revisions[-1]) == []
        for unknown in (revisions[-5], Revision(revisions[-1] + 1)):
            with pytest.raises(Forgotten):
                mirror.since(unknown)
        following.cancel()
