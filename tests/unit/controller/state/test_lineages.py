"""A store that is older than what is known of it has another lineage: nothing goes on from what it was."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.lifecycle.known_store import KnownStore
from controller.overlay import Overlay
from controller.state import keys
from controller.state.lineages import KnownLineage, LineageRecord, decode, encode, ensured
from controller.store.port import Store, Transaction
from overlayd.model.errors import InvalidValue, Unavailable
from overlayd.model.ids import HostId, Revision
from overlayd.model.lineage import Lineage
from overlayd.wire.feed import InSync, Snapshot
from tests.support.controllers.overlays import BLUE, H1, controller_on, controllers, make_host, make_network, store_at

pytestmark = pytest.mark.anyio

OTHER = Lineage("0" * 16, "1" * 16)


def lineage_of(overlay: Overlay) -> Lineage:
    assert overlay.mirror.lineage
    return overlay.mirror.lineage.lineage


async def write_lineage(store: Store, record: LineageRecord) -> None:
    await store.commit(Transaction((), (record.put(),)))


async def test_a_store_has_a_lineage_from_its_first_start_and_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with store_at(path, SystemClock()) as store, controller_on(store) as first:
        made, known = lineage_of(first), first.known()
        assert not first.recovery.is_under_way
    async with store_at(path, SystemClock()) as store:
        assert (await ensured(store, known)).lineage == made


async def test_a_record_comes_back_as_it_was() -> None:
    first = LineageRecord(Lineage.founded())
    second = first.renewed(Revision(7), HostId("h1"))
    for record in (first, second, replace(second, settled=True)):
        assert decode(encode(record)) == record
    assert (second.lineage.cluster, second.parent) == (first.lineage.cluster, first.lineage)
    assert second.lineage != first.lineage


@pytest.mark.parametrize(
    ("later", "cluster", "is_renewed"), [(0, "", False), (-1, "", False), (1, "", True), (0, "beef", True)]
)
async def test_a_controller_that_knew_a_later_revision_or_another_etcd_renews_the_lineage(
    tmp_path: Path, later: int, cluster: str, *, is_renewed: bool
) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        before = lineage_of(overlay)
        at = await store.current_revision()
        record = await ensured(store, KnownLineage(before, Revision(at + later), cluster))
        assert (record.lineage != before) is is_renewed
        assert record.settled is not is_renewed
        assert record.lineage.cluster == before.cluster


async def test_a_lineage_that_somebody_renewed_is_taken_as_it_is(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        before = lineage_of(overlay)
        renewed = LineageRecord(before).renewed(Revision(1))
        await write_lineage(store, renewed)
        assert await ensured(store, KnownLineage(before, Revision(1_000_000), "")) == renewed


async def test_a_controller_notices_that_another_one_renewed_the_lineage(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await write_lineage(store, LineageRecord(lineage_of(overlay)).renewed(Revision(1)))
        async with asyncio.timeout(30):
            assert "another lineage" in await overlay.mirror.replaced()


async def test_a_lineage_is_compared_where_no_watch_tells_of_it(tmp_path: Path) -> None:
    async with store_at(tmp_path / "store.db", SystemClock()) as store:
        overlay = Overlay(store, SystemClock(), "frozen")
        await overlay.load()
        await overlay.mirror.verify_lineage()
        changed = asyncio.ensure_future(overlay.mirror.replaced())
        await asyncio.sleep(0)
        assert not changed.done()
        await write_lineage(store, LineageRecord(lineage_of(overlay)).renewed(Revision(1)))
        await overlay.mirror.verify_lineage()
        async with asyncio.timeout(30):
            await changed


async def test_what_was_drafted_of_another_lineage_comes_to_nothing(tmp_path: Path) -> None:
    async with store_at(tmp_path / "store.db", SystemClock()) as store:
        overlay = Overlay(store, SystemClock(), "frozen")
        await overlay.load()  # and it follows the store no more
        await write_lineage(store, LineageRecord(lineage_of(overlay)).renewed(Revision(1)))
        with pytest.raises(Unavailable):
            await make_network(overlay)
        assert await store.get(keys.network(BLUE)) is None


@pytest.mark.parametrize("which", ["same", "other", "none"])
async def test_a_feed_goes_on_within_its_lineage_only(tmp_path: Path, which: str) -> None:
    async with store_at(tmp_path / "store.db", SystemClock()) as store:
        await write_lineage(store, replace(LineageRecord(OTHER).renewed(Revision(1)), settled=True))
        async with controller_on(store) as overlay:
            at = await make_host_revision(overlay)
            named = {"same": lineage_of(overlay), "other": OTHER, "none": None}[which]
            resumed = await overlay.feeds.admit(H1, "i1", at, named)
            with overlay.feeds.open(H1, "i1") as feed:
                messages = feed.messages(resumed)
                first = await anext(messages)
            # An agent of before there were lineages names none, and may mean a course of events that is no more.
            assert isinstance(first, InSync if which == "same" else Snapshot)


async def test_a_host_of_before_there_were_lineages_goes_on_in_the_first_one(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        at = await make_host_revision(overlay)
        assert await overlay.feeds.admit(H1, "i1", at) == at


async def make_host_revision(overlay: Overlay) -> Revision:
    await make_host(overlay, 1)
    return overlay.mirror.intent_revision


async def test_what_is_known_of_a_store_is_kept(tmp_path: Path) -> None:
    file = KnownStore(tmp_path / "known.json")
    assert file.load() is None
    known = KnownLineage(OTHER, Revision(7), "beef")
    file.note(known)
    assert KnownStore(file.path).load() == known


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"lineage": "x", "revision": 1, "cluster": ""}'])
async def test_a_damaged_note_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "known.json"
    path.write_bytes(content)
    with pytest.raises(InvalidValue, match="is damaged") as caught:
        KnownStore(path).load()
    assert caught.value.field == str(path)


async def test_a_disk_that_is_full_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    KnownStore(tmp_path / "file" / "known.json").note(KnownLineage(OTHER, Revision(7), ""))
