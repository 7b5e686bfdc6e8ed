"""Controllers that are behind their store, or without it, and stores that serve others too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.journal.actor import BY_CONTROLLER, CONTROLLER, Requester
from controller.overlay import Overlay
from controller.state.mirror import Mirror
from controller.store.embedded import EmbeddedStore
from controller.store.port import KeyValue, Page, PutKey, Store, StoreUnavailable, Transaction
from overlayd.model.errors import AlreadyExists, Unavailable
from overlayd.model.ids import Revision
from overlayd.model.network import Topology
from overlayd.wire.feed import Bookmark, FeedMessage, InSync
from tests.support.agents.loopback import running
from tests.support.controllers.overlays import (
    BLUE,
    H1,
    controller_on,
    controllers,
    make_host,
    make_network,
    pool,
    stored,
)
from tests.support.controllers.virtual_clock import VirtualClock

pytestmark = pytest.mark.anyio


async def write_for_somebody_else(store: Store) -> None:
    """Write below another prefix, as another program does that shares an etcd with us."""
    await store.commit(Transaction((), (PutKey("/registry/pods/p1", b"{}"),)))


async def test_a_conflict_in_a_store_that_others_write_to_is_met_at_once(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        late = Overlay(store, SystemClock(), "late")
        await late.load()
        await make_network(overlay)
        await write_for_somebody_else(store)
        creating = asyncio.create_task(make_network(late))
        await asyncio.sleep(0)  # it makes its draft of what it knows
        async with running(late.run()), asyncio.timeout(4):  # less than it takes until a mirror counts as lost
            with pytest.raises(AlreadyExists):
                await creating


async def test_a_controller_works_though_the_last_write_was_somebody_elses(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        await write_for_somebody_else(store)
        async with asyncio.timeout(4):
            await overlay.mirror.verify()


async def test_what_seems_to_be_done_is_done_for_sure(tmp_path: Path) -> None:
    """A controller that has yet to hear of a block does not take it for given back."""
    async with controllers(tmp_path, 1) as (store, [overlay]):
        late = Overlay(store, SystemClock(), "late")
        await make_network(overlay)
        await make_host(overlay, 1)
        await late.load()
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        releasing = asyncio.create_task(late.blocks.release(BY_CONTROLLER, BLUE, block.cidr, H1))
        await asyncio.sleep(0)
        async with running(late.run()):
            await releasing
            assert late.blocks.select(BLUE, None) == []


async def test_those_who_ask_at_the_same_time_share_one_look_at_the_store(tmp_path: Path) -> None:
    async with fragile(tmp_path / "store.db") as store, controller_on(store) as overlay:
        await make_host(overlay, 1)
        before = store.reads
        await asyncio.gather(*(overlay.mirror.verify() for _ in range(50)))
        assert store.reads - before <= 2
        store.lost = StoreUnavailable("no quorum")
        outcomes = await asyncio.gather(*(overlay.mirror.verify() for _ in range(50)), return_exceptions=True)
        assert {str(outcome) for outcome in outcomes} == {"no quorum"}


async def test_nothing_is_done_for_somebody_who_has_gone(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        gone = Requester(CONTROLLER, lambda: False)
        with pytest.raises(Unavailable, match="has disconnected"):
            await overlay.networks.create(gone, BLUE, (pool(),), Topology.ROUTED, None)
        assert await stored(store) == {}


async def test_a_host_that_changes_nothing_may_register_without_the_store(tmp_path: Path) -> None:
    async with fragile(tmp_path / "store.db") as store, controller_on(store) as overlay:
        host = await make_host(overlay, 1)
        store.lost = StoreUnavailable("no quorum")
        assert await make_host(overlay, 1) == host
        with pytest.raises(Unavailable):
            await overlay.hosts.register(BY_CONTROLLER, H1, host.name, host.address, "another start of its agent")


async def test_a_controller_that_is_behind_a_host_catches_up_before_it_tells_it_anything(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        late = Overlay(store, SystemClock(), "late")
        await late.load()
        await make_host(overlay, 1)
        known = overlay.mirror.intent_revision
        admitting = asyncio.create_task(late.feeds.admit(H1, "i1", known))
        following = asyncio.create_task(late.mirror.run())
        await admitting
        assert late.mirror.intent_revision == known
        following.cancel()


async def test_a_host_that_knows_more_than_a_store_made_anew_is_told_everything(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        await overlay.feeds.admit(H1, "i1", Revision(10**9))


class Fragile(EmbeddedStore):
    """A store that can be lost: nothing of it can be read or watched while `lost` is set."""

    lost: StoreUnavailable | None = None
    reads = 0

    async def get(self, key: str, revision: Revision | None = None) -> KeyValue | None:
        self.reads += 1
        if self.lost:
            raise self.lost
        return await super().get(key, revision)

    async def page(
        self, prefix: str, *, limit: int = 1000, after_key: str | None = None, revision: Revision | None = None
    ) -> Page:
        if self.lost:
            raise self.lost
        return await super().page(prefix, limit=limit, after_key=after_key, revision=revision)


@asynccontextmanager
async def fragile(path: Path) -> AsyncIterator[Fragile]:
    opened = Fragile.open(path, SystemClock())
    assert isinstance(opened, Fragile)
    async with running(opened.run()):
        yield opened
    await opened.close()


async def next_of(clock: VirtualClock, said: AsyncIterator[FeedMessage]) -> FeedMessage:
    """Let time pass until a feed says something; what its controller asks of the store takes real time."""
    waiting = asyncio.ensure_future(anext(said))
    while not waiting.done():
        await clock.advance(3)
        await asyncio.wait([waiting], timeout=0.05)
    return waiting.result()


async def test_hosts_are_told_while_their_controller_is_without_its_store(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with fragile(tmp_path / "store.db") as store:
        overlay = Overlay(store, clock, "c1")
        await overlay.load()
        async with running(overlay.run()):
            await make_host(overlay, 1)
            at = overlay.mirror.intent_revision
            with overlay.feeds.open(H1, "i1") as feed:
                said = feed.messages(at)
                assert isinstance(await anext(said), InSync)
                store.lost = StoreUnavailable("no quorum")
                while await next_of(clock, said) != Bookmark(at, stale=True):
                    pass
                store.lost = None
                while await next_of(clock, said) != Bookmark(at):
                    pass


async def test_a_controller_without_its_store_admits_only_whom_it_can_tell_something(tmp_path: Path) -> None:
    async with fragile(tmp_path / "store.db") as store, controller_on(store) as overlay:
        await make_host(overlay, 1)
        at = overlay.mirror.intent_revision
        store.lost = StoreUnavailable("no quorum")
        await overlay.feeds.admit(H1, "i1", at)
        with pytest.raises(Unavailable):
            await overlay.feeds.admit(H1, "i1", Revision(at + 1))


async def test_a_mirror_whose_store_is_lost_when_it_must_read_everything_anew_does_so_later(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with fragile(tmp_path / "store.db") as store, controller_on(store) as overlay:
        behind = Mirror(store, clock, log_max=10)
        await behind.load()
        await make_host(overlay, 1)
        await store.compact(overlay.mirror.revision)
        store.lost = StoreUnavailable("no quorum")
        async with running(behind.run()):
            await clock.advance(2)
            store.lost = None
            async with running(clock.advance(1)):  # which then waits for somebody to sleep again
                await behind.reached(overlay.mirror.revision)
        assert behind.intent.hosts == overlay.mirror.intent.hosts
