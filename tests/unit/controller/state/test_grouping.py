"""Transactions that wait for the store at the same time: they go as one, and each meets its own fate."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.journal.grouping import Group, Grouping, Waiting
from controller.store.embedded import EmbeddedStore
from controller.store.port import (
    TRANSACTION_MAX,
    Abandoned,
    Committed,
    Compare,
    Conflict,
    DeleteKey,
    LeaseId,
    LeaseLost,
    PutKey,
    StoreUnavailable,
    Transaction,
    Unmodified,
    always,
)
from overlayd.model.errors import Unavailable
from overlayd.model.ids import Revision
from tests.support.controllers.overlays import store_at

pytestmark = pytest.mark.anyio

SHARED = PutKey("/shared", b"")


class Door:
    """A store that lets commits in when the test says so, and records them."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.inner = store
        self.open = asyncio.Event()
        self.came: list[Transaction] = []
        self.fails_for: str | None = None
        self.tried_twice = ""
        self.second_try = asyncio.Event()

    async def commit(self, transaction: Transaction, go_on: Callable[[], bool] = always) -> Committed | Conflict:
        self.came.append(transaction)
        await self.open.wait()
        if any(op.key == self.tried_twice for op in transaction.ops):
            await self.second_try.wait()
            if not go_on():
                raise Abandoned("the client has disconnected")
        if any(op.key == self.fails_for for op in transaction.ops):
            raise StoreUnavailable("gone")
        return await self.inner.commit(transaction)


class Scene:
    """A grouping whose ways to the store are both taken, until the door is opened."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.grouping = Grouping(door)  # type: ignore[arg-type]
        self.first: list[asyncio.Task[Committed | Conflict]] = []
        self.gone: set[str] = set()

    async def begin(self) -> None:
        self.first = [self.send(new(f"/first/{number}")) for number in range(2)]
        await self.settled()
        assert len(self.door.came) == 2
        self.door.came.clear()

    def send(self, transaction: Transaction) -> asyncio.Task[Committed | Conflict]:
        """Ask for a transaction, until the key that it writes first is among those that have `gone`."""
        key = transaction.ops[0].key
        return asyncio.create_task(self.grouping.commit(transaction, lambda: key not in self.gone))

    async def settled(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def let_in(self, *tasks: asyncio.Task[Committed | Conflict]) -> list[Committed | Conflict | BaseException]:
        await self.settled()
        self.door.open.set()
        await asyncio.gather(*self.first)
        return await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with store_at(tmp_path / "store.db", SystemClock()) as store:
        found = Scene(Door(store))
        await found.begin()
        yield found


def new(key: str, *more: PutKey | DeleteKey) -> Transaction:
    """A transaction that makes a key, and bumps what all of them bump."""
    return Transaction((Compare(key, Revision(0)),), (PutKey(key, b"x"), SHARED, *more))


async def test_those_that_wait_go_as_one_and_share_its_revision(tmp_path: Path) -> None:
    async with scene(tmp_path) as its:
        outcomes = await its.let_in(*(its.send(new(f"/a/{number}")) for number in range(5)))
        assert len(its.door.came) == 1
        assert len({outcome.revision for outcome in outcomes if isinstance(outcome, Committed)}) == 1
        assert len(outcomes) == 5
        assert [item.key for item in (await its.door.inner.page("/a/")).items] == [f"/a/{n}" for n in range(5)]


async def test_who_meets_a_conflict_meets_it_alone(tmp_path: Path) -> None:
    async with scene(tmp_path) as its:
        await its.door.inner.commit(Transaction((), (PutKey("/a/1", b"there"),)))
        outcomes = await its.let_in(*(its.send(new(f"/a/{number}")) for number in range(3)))
        assert [type(outcome) for outcome in outcomes] == [Committed, Conflict, Committed]
        found = await its.door.inner.get("/a/1")
        assert found is not None
        assert found.value == b"there"


async def test_who_has_no_lease_any_more_fails_alone(tmp_path: Path) -> None:
    async with scene(tmp_path) as its:
        leased = Transaction((), (PutKey("/leased", b"", LeaseId(999)),))
        outcomes = await its.let_in(its.send(new("/a")), its.send(leased))
        assert [type(outcome) for outcome in outcomes] == [Committed, LeaseLost]


async def test_a_store_that_fails_fails_everyone(tmp_path: Path) -> None:
    async with scene(tmp_path) as its:
        its.door.fails_for = "/a/1"
        outcomes = await its.let_in(*(its.send(new(f"/a/{number}")) for number in range(3)))
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        assert isinstance(await its.send(new("/later")), Committed)


async def test_what_nobody_wants_any_more_is_not_written(tmp_path: Path) -> None:
    async with scene(tmp_path) as its:
        gone, cancelled = its.send(new("/gone")), its.send(new("/cancelled"))
        its.gone = {"/gone"}
        await its.settled()
        cancelled.cancel()
        outcomes = await its.let_in(gone, cancelled, its.send(new("/wanted")))
        assert [type(outcome) for outcome in outcomes] == [Unavailable, asyncio.CancelledError, Committed]
        assert await its.door.inner.get("/gone") is None
        assert await its.door.inner.get("/cancelled") is None


async def test_who_gives_up_while_a_group_meets_a_conflict_is_left_out_of_what_follows(tmp_path: Path) -> None:
    async with scene(tmp_path) as its:
        await its.door.inner.commit(Transaction((), (PutKey("/a/1", b"there"),)))
        tasks = [its.send(new(f"/a/{number}")) for number in range(4)]
        await its.settled()
        its.door.open.set()
        await asyncio.gather(*its.first)
        its.gone = {"/a/0"}
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable, Conflict, Committed, Committed]
        assert await its.door.inner.get("/a/0") is None


async def test_a_store_that_tries_again_leaves_out_who_has_gone(tmp_path: Path) -> None:
    async with scene(tmp_path) as its:
        its.door.tried_twice = "/a/0"
        tasks = [its.send(new(f"/a/{number}")) for number in range(3)]
        await its.settled()
        its.door.open.set()
        await asyncio.gather(*its.first)
        await its.settled()
        assert [len(transaction.compares) for transaction in its.door.came] == [3]
        its.gone = {"/a/1"}
        its.door.second_try.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Committed, Unavailable, Committed]
        assert await its.door.inner.get("/a/1") is None
        assert [len(transaction.compares) for transaction in its.door.came] == [3, 2]


async def test_the_store_is_asked_for_no_more_than_it_takes(tmp_path: Path) -> None:
    async with scene(tmp_path) as its:
        await its.let_in(*(its.send(new(f"/a/{number}")) for number in range(2 * TRANSACTION_MAX)))
        assert len(its.door.came) == 3
        large = [its.send(new(f"/large/{n}", PutKey(f"/value/{n}", bytes(200_000)))) for n in range(3)]
        its.door.came.clear()
        await asyncio.gather(*large)
        assert len(its.door.came) == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (new("/a"), Transaction((Compare("/a", Revision(0)),), (PutKey("/b", b""),))),
        (Transaction((Compare("/b", Revision(0)),), (PutKey("/a", b""),)), Transaction((), (PutKey("/b", b""),))),
        (new("/hosts/a"), Transaction((Unmodified("/hosts/", Revision(9)),), (PutKey("/b", b""),))),
        (Transaction((Unmodified("/hosts/", Revision(9)),), (PutKey("/b", b""),)), new("/hosts/a")),
        (Transaction((), (PutKey("/a", b"1"),)), Transaction((), (PutKey("/a", b"2"),))),
        (Transaction((), (PutKey("/a", b"1"),)), Transaction((), (DeleteKey("/a"),))),
    ],
)
async def test_what_depends_on_another_does_not_go_with_it(one: Transaction, other: Transaction) -> None:
    group = Group()
    group.add(Waiting(one, lambda: True, asyncio.get_running_loop().create_future()))
    assert not group.admits(other)
    assert group.admits(new("/elsewhere"))
