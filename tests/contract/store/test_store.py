"""What every store does. An implementation joins by adding a subject to the fixture `subject`."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from controller.clock import SystemClock
from controller.store.etcd.cluster import Certificates, parse_url
from controller.store.etcd.store import EtcdStore
from controller.store.port import (
    TRANSACTION_MAX,
    Committed,
    Compare,
    Conflict,
    Count,
    DeleteKey,
    Event,
    LeaseId,
    LeaseLost,
    PutKey,
    RevisionCompacted,
    RevisionEvents,
    Store,
    Transaction,
    Unmodified,
)
from overlayd.model.ids import Revision
from tests.support.controllers.etcd import EtcdCluster
from tests.support.controllers.overlays import open_store, store_at
from tests.support.controllers.virtual_clock import VirtualClock

pytestmark = pytest.mark.anyio

ABSENT = Revision(0)


class Subject(Protocol):
    """One place where a store keeps its keys, and the time it lives in."""

    def open(self) -> AbstractAsyncContextManager[Store]: ...

    async def pass_time(self, seconds: float) -> None:
        """Let time pass if it can be hurried; otherwise it passes while the test waits for what must happen."""


class Embedded:
    def __init__(self, directory: Path) -> None:
        self._path = directory / "store.db"
        self._clock = VirtualClock()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        async with store_at(self._path, self._clock) as store:
            yield store

    async def pass_time(self, seconds: float) -> None:
        await self._clock.advance(seconds)


class Etcd:
    """A cluster of etcd. What a test leaves in it, the next one removes."""

    def __init__(self, cluster: EtcdCluster) -> None:
        self._cluster = parse_url(cluster.url, Certificates(), None, "--store")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        async with open_store(EtcdStore(self._cluster, SystemClock())) as store:
            yield store

    async def pass_time(self, seconds: float) -> None:
        pass

    async def empty(self) -> None:
        async with self.open() as store:
            for key in [item.key for item in (await store.page("/")).items]:
                await delete(store, key)


@pytest.fixture(scope="module")
def etcd_clusters() -> Iterator[dict[str, EtcdCluster]]:
    with EtcdCluster(1) as one, EtcdCluster(3) as three:
        yield {"etcd": one, "etcd cluster": three}


@pytest.fixture(params=["embedded", "etcd", "etcd cluster"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    if request.param == "embedded":
        return Embedded(tmp_path)
    clusters: dict[str, EtcdCluster] = request.getfixturevalue("etcd_clusters")
    subject = Etcd(clusters[request.param])
    await subject.empty()
    return subject


@pytest.fixture
async def store(subject: Subject) -> AsyncIterator[Store]:
    async with subject.open() as opened:
        yield opened


async def test_asking_whether_writes_are_taken_changes_nothing(store: Store) -> None:
    before = await put(store, "/t/x")
    watch = store.watch("/", before)
    await store.check_writable()
    after = await put(store, "/t/y")
    assert after == before + 1
    assert [event.key for event in (await anext(watch)).events if event.key.startswith("/t/")] == ["/t/y"]


async def put(store: Store, key: str, value: bytes = b"", lease: LeaseId | None = None) -> Revision:
    committed = await store.commit(Transaction((), (PutKey(key, value, lease),)))
    assert isinstance(committed, Committed)
    return committed.revision


async def delete(store: Store, key: str) -> Revision:
    committed = await store.commit(Transaction((), (DeleteKey(key),)))
    assert isinstance(committed, Committed)
    return committed.revision


async def contents(store: Store, prefix: str, revision: Revision | None = None) -> dict[str, bytes]:
    return {item.key: item.value for item in (await store.page(prefix, revision=revision)).items}


async def take(watch: AsyncIterator[RevisionEvents], number: int) -> list[RevisionEvents]:
    """Return the next changes, of which there must be so many before the test's patience ends."""
    async with asyncio.timeout(30):
        return [await anext(watch) for _ in range(number)]


async def test_a_key_that_was_put_is_found(store: Store) -> None:
    first = await put(store, "/a/x", b"1")
    second = await put(store, "/a/x", b"2")
    found = await store.get("/a/x")
    assert found is not None
    assert (found.value, found.create_revision, found.mod_revision) == (b"2", first, second)
    assert await store.get("/a/y") is None


async def test_a_deleted_key_is_gone_and_made_anew(store: Store) -> None:
    first = await put(store, "/a/x", b"1")
    await delete(store, "/a/x")
    assert await store.get("/a/x") is None
    again = await put(store, "/a/x", b"2")
    found = await store.get("/a/x")
    assert found is not None
    assert found.create_revision == again > first


async def test_the_revision_counts_transactions_that_write(store: Store) -> None:
    start = await store.current_revision()
    ops = (PutKey("/a/x", b"1"), PutKey("/a/y", b"2"))
    assert await store.commit(Transaction((), ops)) == Committed(Revision(start + 1))
    assert await store.current_revision() == start + 1


async def test_a_key_can_be_read_as_it_was(store: Store) -> None:
    before = await store.current_revision()
    first = await put(store, "/a/x", b"1")
    second = await put(store, "/a/x", b"2")
    third = await delete(store, "/a/x")
    seen = [await store.get("/a/x", revision) for revision in (before, first, second, third)]
    assert [found and found.value for found in seen] == [None, b"1", b"2", None]


async def test_a_list_holds_the_keys_below_its_prefix_in_order(store: Store) -> None:
    for key in ("/a/2", "/a/10", "/a0", "/b/1", "/a/é", "/a/1/x", "/a"):
        await put(store, key)
    page = await store.page("/a/")
    assert [item.key for item in page.items] == ["/a/1/x", "/a/10", "/a/2", "/a/é"]
    assert page.revision == await store.current_revision()
    assert not page.more


async def test_pages_of_one_list_show_one_revision_while_writes_go_on(store: Store) -> None:
    wanted = {f"/a/{number:02}": b"old" for number in range(25)}
    await store.commit(Transaction((), tuple(PutKey(key, value) for key, value in wanted.items())))
    page = await store.page("/a/", limit=10)
    at, seen, sizes = page.revision, list(page.items), [len(page.items)]
    while page.more:
        await put(store, f"/a/{len(seen):02}", b"new")
        await delete(store, "/a/24")
        await put(store, f"/a/{len(seen):02}-between")
        page = await store.page("/a/", limit=10, after_key=seen[-1].key, revision=at)
        assert page.revision == at
        seen += page.items
        sizes.append(len(page.items))
    assert {item.key: item.value for item in seen} == wanted
    assert sizes == [10, 10, 5]


async def test_the_keys_below_a_prefix_are_counted(store: Store) -> None:
    for key in ("/a", "/a/x", "/a/y", "/a/z", "/b/x"):
        await put(store, key)
    at = await delete(store, "/a/y")
    assert await store.count("/a/") == Count(2, at)
    assert (await store.count("/c/")).number == 0


async def test_a_transaction_writes_all_when_its_compares_hold(store: Store) -> None:
    at = await put(store, "/a/x", b"1")
    compares = (Compare("/a/x", at), Compare("/a/y", ABSENT))
    outcome = await store.commit(Transaction(compares, (PutKey("/a/y", b"2"), DeleteKey("/a/x"))))
    assert outcome == Committed(Revision(at + 1))
    assert await contents(store, "/a/") == {"/a/y": b"2"}


@pytest.mark.parametrize(
    "wrong", [Compare("/a/x", ABSENT), Compare("/a/y", Revision(1)), Compare("/a/x", Revision(99))]
)
async def test_a_transaction_writes_nothing_when_one_compare_fails(store: Store, wrong: Compare) -> None:
    at = await put(store, "/a/x", b"1")
    outcome = await store.commit(Transaction((Compare("/a/x", at), wrong), (PutKey("/a/z", b"2"), DeleteKey("/a/x"))))
    assert outcome == Conflict(at)
    assert await contents(store, "/a/") == {"/a/x": b"1"}
    assert await store.current_revision() == at


async def test_of_writers_that_compare_the_same_key_one_wins(store: Store) -> None:
    claims = [Transaction((Compare("/a/x", ABSENT),), (PutKey("/a/x", b"%d" % number),)) for number in range(64)]
    outcomes = await asyncio.gather(*(store.commit(claim) for claim in claims))
    (winner,) = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Committed)]
    assert await contents(store, "/a/") == {"/a/x": b"%d" % winner}


async def test_unmodified_fails_when_a_key_below_the_prefix_is_newer(store: Store) -> None:
    await put(store, "/a/x")
    since = await put(store, "/a/y")
    await put(store, "/b/x")
    guarded = Transaction((Unmodified("/a/", since),), (PutKey("/c", b""),))
    assert isinstance(await store.commit(guarded), Committed)
    await put(store, "/a/x", b"changed")
    assert isinstance(await store.commit(guarded), Conflict)


async def test_unmodified_does_not_notice_deletions(store: Store) -> None:
    since = await put(store, "/a/x")
    await put(store, "/a/y")
    await delete(store, "/a/y")
    await delete(store, "/a/x")
    assert isinstance(await store.commit(Transaction((Unmodified("/a/", since),), (PutKey("/c", b""),))), Committed)


async def test_the_largest_transaction_is_taken(store: Store) -> None:
    names = [f"/a/{number}" for number in range(TRANSACTION_MAX)]
    compares = tuple(Compare(name, ABSENT) for name in names)
    assert isinstance(await store.commit(Transaction(compares, tuple(PutKey(name, b"") for name in names))), Committed)
    assert len(await contents(store, "/a/")) == TRANSACTION_MAX


async def test_a_watch_sees_each_revision_once_and_in_order(store: Store) -> None:
    await put(store, "/a/before")
    after = await put(store, "/a/x", b"1")
    watch = store.watch("/a/", after)
    both = await store.commit(Transaction((), (PutKey("/a/x", b"2"), PutKey("/a/w", b"3"), PutKey("/b/other", b""))))
    await put(store, "/b/x")
    gone = await delete(store, "/a/x")
    assert await take(watch, 2) == [
        RevisionEvents(both.revision, (Event("/a/w", b"3", None), Event("/a/x", b"2", b"1"))),
        RevisionEvents(gone, (Event("/a/x", None, b"2"),)),
    ]
    following = asyncio.create_task(take(watch, 1))  # now it waits
    last = await put(store, "/a/x", b"4")
    assert await following == [RevisionEvents(last, (Event("/a/x", b"4", None),))]


async def test_a_watch_that_is_resumed_misses_and_repeats_nothing(store: Store) -> None:
    start = await store.current_revision()
    written = [await put(store, f"/a/{number}") for number in range(600)]
    seen: list[Revision] = []
    while len(seen) < len(written):
        watch = store.watch("/a/", seen[-1] if seen else start)
        seen += [changes.revision for changes in await take(watch, min(70, len(written) - len(seen)))]
    assert seen == written


async def test_many_watches_each_see_everything(store: Store) -> None:
    start = await store.current_revision()
    watching = [asyncio.create_task(take(store.watch("/a/", start), 50)) for _ in range(5)]
    written = [await put(store, f"/a/{number}") for number in range(50)]
    for seen in await asyncio.gather(*watching):
        assert [changes.revision for changes in seen] == written


async def test_compaction_keeps_what_exists_and_forgets_what_was(store: Store) -> None:
    old = await put(store, "/a/x", b"1")
    await put(store, "/a/gone", b"1")
    await put(store, "/a/x", b"2")
    await delete(store, "/a/gone")
    at = await put(store, "/a/y", b"3")
    later = await put(store, "/a/y", b"4")
    await store.compact(at)
    assert await contents(store, "/a/", at) == {"/a/x": b"2", "/a/y": b"3"}
    assert await contents(store, "/a/") == {"/a/x": b"2", "/a/y": b"4"}
    found = await store.get("/a/x")
    assert found is not None
    assert found.create_revision == old
    with pytest.raises(RevisionCompacted):
        await store.get("/a/x", old)
    with pytest.raises(RevisionCompacted):
        await store.page("/a/", revision=old)
    with pytest.raises(RevisionCompacted):
        await take(store.watch("/a/", old), 1)
    assert await take(store.watch("/a/", at), 1) == [RevisionEvents(later, (Event("/a/y", b"4", b"3"),))]


async def test_a_compaction_to_an_older_revision_changes_nothing(store: Store) -> None:
    first = await put(store, "/a/x", b"1")
    second = await put(store, "/a/x", b"2")
    third = await put(store, "/a/x", b"3")
    await store.compact(second)
    await store.compact(first)
    assert await contents(store, "/a/", second) == {"/a/x": b"2"}
    assert [changes.revision for changes in await take(store.watch("/a/", second), 1)] == [third]


async def test_a_watch_that_keeps_up_survives_compactions(store: Store) -> None:
    watch = store.watch("/a/", await store.current_revision())
    for _ in range(3):
        await put(store, "/b/elsewhere")
        at = await put(store, "/a/x")
        assert [changes.revision for changes in await take(watch, 1)] == [at]
        await store.compact(at)


async def test_keys_of_a_lease_that_expires_vanish_together(subject: Subject, store: Store) -> None:
    lease = await store.grant(2)
    await put(store, "/a/mine", b"1", lease)
    await put(store, "/a/also-mine", b"2", lease)
    await put(store, "/a/handed-on", b"3", lease)
    await put(store, "/a/handed-on", b"4")
    after = await put(store, "/a/other", b"5")
    await subject.pass_time(2.6)
    (gone,) = await take(store.watch("/a/", after), 1)
    assert gone.events == (Event("/a/also-mine", None, b"2"), Event("/a/mine", None, b"1"))
    assert await contents(store, "/a/") == {"/a/handed-on": b"4", "/a/other": b"5"}
    with pytest.raises(LeaseLost):
        await store.keep_alive(lease)


async def test_a_lease_that_is_kept_alive_lasts(subject: Subject, store: Store) -> None:
    lease = await store.grant(2)
    after = await put(store, "/a/x", b"1", lease)
    for _ in range(3):
        await subject.pass_time(1.4)
        await store.keep_alive(lease)
    assert await store.current_revision() == after
    await subject.pass_time(2.6)
    (gone,) = await take(store.watch("/a/", after), 1)
    assert gone.events == (Event("/a/x", None, b"1"),)


async def test_a_revoked_lease_takes_its_keys_at_once(store: Store) -> None:
    lease = await store.grant(60)
    await put(store, "/a/x", b"1", lease)
    await store.revoke(lease)
    assert await contents(store, "/a/") == {}
    await store.revoke(lease)
    with pytest.raises(LeaseLost):
        await store.keep_alive(lease)


async def test_a_put_on_a_lost_lease_writes_nothing(store: Store) -> None:
    lease = await store.grant(60)
    await store.revoke(lease)
    with pytest.raises(LeaseLost):
        await store.commit(Transaction((), (PutKey("/a/x", b"1"), PutKey("/a/y", b"2", lease))))
    assert await contents(store, "/a/") == {}


async def test_a_failed_write_does_not_harm_those_beside_it(store: Store) -> None:
    lost = await store.grant(60)
    await store.revoke(lost)
    outcomes = await asyncio.gather(
        put(store, "/a/1"), put(store, "/a/2", lease=lost), put(store, "/a/3"), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [int, LeaseLost, int]
    assert set(await contents(store, "/a/")) == {"/a/1", "/a/3"}


async def test_a_caller_that_gives_up_does_not_harm_those_beside_it(store: Store) -> None:
    writes = [asyncio.create_task(put(store, f"/a/{number}")) for number in range(20)]
    await asyncio.sleep(0)  # they are under way
    for write in writes[::2]:
        write.cancel()
    await asyncio.wait(writes)
    assert {write.result() for write in writes[1::2]} == {
        item.mod_revision for item in (await store.page("/a/")).items if int(item.key[3:]) % 2
    }
    await put(store, "/a/after")


async def test_a_store_that_is_opened_again_has_everything(subject: Subject) -> None:
    async with subject.open() as store:
        first = await put(store, "/a/x", b"1")
        await put(store, "/a/x", b"2")
        lease = await store.grant(2)
        last = await put(store, "/a/leased", b"3", lease)
    async with subject.open() as store:
        assert await store.current_revision() >= last
        assert await contents(store, "/a/") == {"/a/x": b"2", "/a/leased": b"3"}
        assert await contents(store, "/a/", first) == {"/a/x": b"1"}
        assert len(await take(store.watch("/a/", first), 2)) == 2
        await subject.pass_time(2.6)
        (gone,) = await take(store.watch("/a/", last), 1)
        assert gone.events == (Event("/a/leased", None, b"3"),)


@pytest.mark.parametrize("seed", range(5))
async def test_a_store_does_what_a_dictionary_does(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    start = await store.current_revision()
    expected: dict[str, bytes] = {}
    past: dict[Revision, dict[str, bytes]] = {start: {}}
    for number in range(300):
        names = chance.sample([f"/a/{name}" for name in "uvwxyz"], chance.randint(1, 4))
        ops = tuple(PutKey(name, b"%d" % number) if chance.random() < 0.6 else DeleteKey(name) for name in names)
        outcome = await store.commit(Transaction((), ops))
        if all(isinstance(op, DeleteKey) and op.key not in expected for op in ops):
            continue  # nothing was committed, so no watch reports it
        for op in ops:
            if isinstance(op, PutKey):
                expected[op.key] = op.value
            else:
                expected.pop(op.key, None)
        past[outcome.revision] = dict(expected)
    replayed: dict[str, bytes] = {}
    for changes in await take(store.watch("/a/", start), len(past) - 1):
        for event in changes.events:
            assert event.previous == replayed.get(event.key)
            if event.value is None:
                del replayed[event.key]
            else:
                replayed[event.key] = event.value
        assert replayed == past[changes.revision]
    kept = chance.choice(sorted(past))
    await store.compact(kept)
    for revision in (revision for revision in past if revision >= kept):
        assert await contents(store, "/a/", revision) == past[revision]
