"""A host that follows its feed knows what it must, however changes and reconnections fall."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.clock import SystemClock
from controller.journal.actor import BY_CONTROLLER
from controller.overlay import Overlay
from controller.state.mirror import Mirror
from controller.streams.feed import Deltas, Feed
from overlayd.agent.controllers.client import FEED_SILENCE
from overlayd.model.cluster import Cluster, RecordKey
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import OverlayError
from overlayd.model.ids import HostId, NetworkName, Revision
from overlayd.model.network import Network, Topology
from overlayd.wire.feed import Bookmark, Delta, FeedMessage, InSync, Snapshot
from tests.support.controllers.overlays import (
    BLUE,
    H1,
    H2,
    controller_on,
    controllers,
    make_endpoint,
    make_host,
    make_network,
    pool,
    store_at,
    until,
    until_heard,
    visible_to,
    whole_cluster,
)
from tests.support.controllers.virtual_clock import VirtualClock

pytestmark = pytest.mark.anyio


@dataclass
class Agent:
    """What an agent makes of its feeds, and what it knew at each revision."""

    cluster: Cluster = field(default_factory=Cluster)
    past: dict[Revision, Cluster] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a message has been taken in."""

    async def follow(self, messages: AsyncIterator[FeedMessage]) -> None:
        """Take in one feed as it comes."""
        in_sync = False
        is_first = True
        async for message in messages:
            match message:
                case Snapshot(revision, puts):
                    assert not in_sync
                    self.cluster = (Cluster() if is_first else self.cluster).changed(revision, puts)
                case Delta(revision, puts, deletes):
                    assert puts or deletes
                    self.cluster = self.cluster.changed(revision, puts, deletes)
                case InSync(revision):
                    assert revision >= self.cluster.revision
                    self.cluster = self.cluster.changed(revision)
                    in_sync = True
                case Bookmark(revision):
                    assert in_sync
                    assert revision >= self.cluster.revision
                    self.cluster = self.cluster.changed(revision)
            is_first = False
            if in_sync:
                self.past[self.cluster.revision] = self.cluster
            self.news.set()


async def replay(said: list[FeedMessage]) -> AsyncIterator[FeedMessage]:
    for message in said:
        yield message


def synced(overlay: Overlay, at: Revision) -> InSync:
    """Return the in-sync mark of a controller at a revision."""
    assert overlay.mirror.lineage
    return InSync(at, lineage=overlay.mirror.lineage.lineage)


async def opening(overlay: Overlay, host: HostId, after: Revision | None) -> list[FeedMessage]:
    """Return what a new feed says up to in-sync."""
    said: list[FeedMessage] = []
    with overlay.feeds.open(host, "i") as feed:
        async for message in feed.messages(after):
            said.append(message)
            if isinstance(message, InSync):
                break
    return said


async def test_a_host_without_blocks_is_told_the_hosts_only(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay)
        hosts = [await make_host(overlay, number) for number in (1, 2)]
        await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H2, [])
        at = overlay.mirror.intent_revision
        assert await opening(overlay, H1, None) == [Snapshot(at, tuple(hosts)), synced(overlay, at)]


@pytest.mark.parametrize("topology", list(Topology))
async def test_the_first_block_brings_the_whole_network(tmp_path: Path, topology: Topology) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        network = await make_network(overlay, topology=topology)
        for number in (1, 2):
            await make_host(overlay, number)
        theirs = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H2, [])).result
        endpoint = make_endpoint(theirs, 5)
        await overlay.endpoints.publish(BY_CONTROLLER, H2, [endpoint], [])
        before = overlay.mirror.intent_revision
        mine = await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        (delta, in_sync) = await opening(overlay, H1, before)
        assert isinstance(delta, Delta)
        endpoints = {endpoint} if topology is Topology.SWITCHED else set()
        assert set(delta.puts) == {network, theirs, mine.result, *endpoints}
        assert (delta.revision, delta.deletes) == (mine.revision, ())
        assert in_sync == synced(overlay, mine.revision)


async def test_the_last_block_takes_the_network(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay)
        for number in (1, 2):
            await make_host(overlay, number)
        await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H2, [])
        mine = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        before = overlay.mirror.intent_revision
        left = await overlay.blocks.release(BY_CONTROLLER, BLUE, mine.cidr, H1)
        expected = Delta(left.revision, (), (RecordKey(Network, BLUE),))
        assert await opening(overlay, H1, before) == [expected, synced(overlay, left.revision)]


async def test_a_block_given_back_and_taken_again_is_all_that_changed(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1, quarantine=0.1) as (_, [overlay]):
        await make_host(overlay, 1)
        await make_network(overlay)
        mine = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        before = overlay.mirror.intent_revision
        await overlay.blocks.release(BY_CONTROLLER, BLUE, mine.cidr, H1)
        await until(overlay, lambda: not overlay.mirror.occupancy.space(BLUE).withheld)
        again = await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        assert await opening(overlay, H1, before) == [
            Delta(again.revision, (mine,), ()),
            synced(overlay, again.revision),
        ]


@pytest.mark.parametrize("topology", list(Topology))
async def test_endpoints_are_told_in_switched_networks_only(tmp_path: Path, topology: Topology) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay, topology=topology)
        for number in (1, 2):
            await make_host(overlay, number)
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H2, [])).result
        before = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).revision
        endpoint = make_endpoint(block, 5)
        put = (await overlay.endpoints.publish(BY_CONTROLLER, H2, [endpoint], [])).revision
        deleted = (await overlay.endpoints.replace(BY_CONTROLLER, H2, [])).revision
        key = RecordKey(Endpoint, endpoint.key)
        told_of_it: list[FeedMessage] = [Delta(deleted, (), (key,))] if topology is Topology.SWITCHED else []
        assert await opening(overlay, H1, before) == [*told_of_it, synced(overlay, deleted)]
        assert await opening(overlay, H1, put) == [*told_of_it, synced(overlay, deleted)]


async def test_a_network_made_anew_while_the_host_was_away_stands_in_both_lists(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        await make_network(overlay, topology=Topology.SWITCHED)
        mine = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        before = overlay.mirror.intent_revision
        await overlay.networks.delete(BY_CONTROLLER, BLUE)
        await overlay.blocks.release(BY_CONTROLLER, BLUE, mine.cidr, H1)
        again = await make_network(overlay, of=pool("10.33.0.0/16"))
        block = await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        expected = Delta(block.revision, (again, block.result), (RecordKey(Network, BLUE),))
        assert await opening(overlay, H1, before) == [expected, synced(overlay, block.revision)]


async def test_a_large_snapshot_comes_in_parts_of_one_revision(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        await make_network(overlay, of=pool("10.32.0.0/16", 20), topology=Topology.SWITCHED)
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        await overlay.endpoints.replace(BY_CONTROLLER, H1, [make_endpoint(block, number) for number in range(2, 2502)])
        *parts, in_sync = await opening(overlay, H1, None)
        assert {part.revision for part in parts} == {in_sync.revision} == {overlay.mirror.intent_revision}
        assert [len(part.puts) for part in parts if isinstance(part, Snapshot)] == [1000, 1000, 503]
        agent = Agent()
        await agent.follow(replay([*parts, in_sync]))
        assert agent.cluster == visible_to(await whole_cluster(store), H1)


@pytest.mark.parametrize("after", [Revision(10**9), Revision(0)])
async def test_a_revision_that_the_log_does_not_know_gets_a_snapshot(tmp_path: Path, after: Revision) -> None:
    async with store_at(tmp_path / "store.db", SystemClock()) as store:
        async with controller_on(store) as overlay:
            host = await make_host(overlay, 1)
        async with controller_on(store) as overlay:  # whose log begins now
            at = overlay.mirror.intent_revision
            assert await opening(overlay, H1, after) == [Snapshot(at, (host,)), synced(overlay, at)]
            assert await opening(overlay, H1, at) == [synced(overlay, at)]


async def test_changes_that_do_not_concern_a_host_come_as_bookmarks(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        with overlay.feeds.open(H1, "i") as feed:
            messages = feed.messages(overlay.mirror.intent_revision)
            assert isinstance(await anext(messages), InSync)
            await make_network(overlay)
            assert await anext(messages) == Bookmark(overlay.mirror.intent_revision)


async def test_what_concerns_hosts_is_made_once_for_all_that_know_what_came_before(tmp_path: Path) -> None:
    """Also when one of them has heard last of a change that did not concern it, and another one of none."""
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay)
        for number in (1, 2):
            await make_host(overlay, number)
        for host in (H1, H2):
            await overlay.blocks.acquire(BY_CONTROLLER, BLUE, host, [])
        at = overlay.mirror.intent_revision
        with overlay.feeds.open(H1, "i") as first, overlay.feeds.open(H2, "i") as second:
            told, late = first.messages(at), second.messages(at)
            assert await anext(told) == await anext(late) == synced(overlay, at)
            await make_network(overlay, NetworkName("red"))
            assert await anext(told) == Bookmark(overlay.mirror.intent_revision)
            await overlay.networks.update(BY_CONTROLLER, BLUE, lambda blue: replace(blue, egress=False))
            delta = await anext(told)
            assert isinstance(delta, Delta)
            assert await anext(late) is delta


async def test_a_sign_of_life_repeats_the_revision_that_the_host_has(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        at = overlay.mirror.intent_revision
        feed = Feed(Deltas(overlay.mirror), H1)
        messages = feed.messages(at)
        assert await anext(messages) == synced(overlay, at)
        await make_network(overlay)
        feed.keep_alive()
        assert await anext(messages) == Bookmark(at)
        feed.keep_alive()
        feed.wake()
        assert await anext(messages) == Bookmark(overlay.mirror.intent_revision)


async def test_a_sign_of_life_moves_on_before_the_log_forgets_where_the_host_is(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        mirror = Mirror(store, SystemClock(), log_max=8)
        await mirror.load()
        following = asyncio.create_task(mirror.run())
        at = mirror.intent_revision
        feed = Feed(Deltas(mirror), H1)
        messages = feed.messages(at)
        assert isinstance(await anext(messages), InSync)
        for number in range(1, 6):
            await make_network(overlay, NetworkName(f"n{number}"))
            await mirror.reached(overlay.mirror.revision)
            feed.keep_alive()
            expected = at if number < 5 else mirror.intent_revision
            assert await anext(messages) == Bookmark(expected)
        following.cancel()


class LateClock(VirtualClock):
    """The clock of a busy controller, on which every sleep is longer than asked for."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds + 0.2)


async def hear(feed: Feed, clock: VirtualClock, heard: list[float]) -> None:
    """Note the time of each message of a feed."""
    heard.extend([clock.now() async for _ in feed.messages(None)])


async def test_every_host_hears_a_busy_controller_of_many_hosts_in_time(tmp_path: Path) -> None:
    clock = LateClock()
    async with store_at(tmp_path / "store.db", SystemClock()) as store:
        overlay = Overlay(store, clock, "c1")
        await overlay.load()
        running = asyncio.create_task(overlay.run())
        heard: list[list[float]] = [[] for _ in range(400)]
        with ExitStack() as feeds:
            opened = [feeds.enter_context(overlay.feeds.open(HostId(f"h{each}"), "i")) for each in range(400)]
            reading = [asyncio.create_task(hear(feed, clock, times)) for feed, times in zip(opened, heard, strict=True)]
            for _ in range(200):
                await clock.advance(0.1)
                await settled()
            overlay.feeds.end()
            await asyncio.gather(*reading)
        gaps = [after - before for times in heard for before, after in pairwise((*times, clock.now()))]
        assert max(gaps) < FEED_SILENCE
        running.cancel()
        await asyncio.wait([running])


async def bookmarked(feed: Feed, at: Revision, reached: list[Feed]) -> None:
    """Note the feed as soon as it tells of a change that does not concern its host."""
    async for message in feed.messages(at):
        if isinstance(message, Bookmark) and message.revision > at:
            reached.append(feed)
            return


async def test_bookmarks_to_many_hosts_are_spread_over_time(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with store_at(tmp_path / "store.db", SystemClock()) as store:
        overlay = Overlay(store, clock, "c1")
        await overlay.load()
        running = asyncio.create_task(overlay.run())
        hosts = [await make_host(overlay, number) for number in range(1, 101)]
        at = overlay.mirror.intent_revision
        reached: list[Feed] = []
        with ExitStack() as feeds:
            opened = [feeds.enter_context(overlay.feeds.open(host.id, "i")) for host in hosts]
            reading = [asyncio.create_task(bookmarked(feed, at, reached)) for feed in opened]
            await asyncio.sleep(0)
            await make_network(overlay)
            per_tenth = [len(reached)]
            while len(reached) < len(opened):
                for _ in range(10):
                    await clock.advance(0.01)
                    await settled()
                per_tenth.append(len(reached))
            assert max(after - before for before, after in pairwise(per_tenth)) <= 40 + 8
            assert {*reached} == {*opened}
            await asyncio.gather(*reading)
        running.cancel()
        await asyncio.wait([running])


async def settled() -> None:
    """Let every task come to where it waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_presence_moves_no_revision(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        before = overlay.mirror.intent_revision
        with overlay.feeds.open(H1, "i"):
            await until_heard(overlay, H1, lambda presence: presence is not None)
        await until_heard(overlay, H1, lambda presence: presence is None)
        assert overlay.mirror.intent_revision == before
        assert await opening(overlay, H1, before) == [synced(overlay, before)]


async def test_a_new_feed_of_a_host_ends_its_old_one(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        with overlay.feeds.open(H1, "old") as old, overlay.feeds.open(H1, "new"):
            said = [message async for message in old.messages(None)]
            assert isinstance(said[-1], InSync)
        with overlay.feeds.open(H1, "newest"):
            await until_heard(overlay, H1, lambda presence: presence is not None and presence.instance == "newest")


async def test_a_reader_too_slow_for_the_log_comes_to_the_end_of_its_feed(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        mirror = Mirror(store, SystemClock(), log_max=5)
        await mirror.load()
        following = asyncio.create_task(mirror.run())
        reader = Feed(Deltas(mirror), H1)
        slow = reader.messages(None)
        assert isinstance(await anext(slow), Snapshot)
        for number in range(2, 9):
            await make_host(overlay, number)
        await mirror.reached(overlay.mirror.revision)
        assert isinstance(await anext(slow), InSync)
        reader.wake()
        assert [message async for message in slow] == []
        delta = await anext(Feed(Deltas(mirror), H1).messages(Revision(overlay.mirror.intent_revision - 5)))
        assert isinstance(delta, Delta)
        assert len(delta.puts) == 5
        following.cancel()


NAMES = st.sampled_from([NetworkName("blue"), NetworkName("red")])
NUMBERS = st.integers(1, 3)
HOSTS = NUMBERS.map(lambda number: HostId(f"h{number}"))
STEPS = st.one_of(
    st.tuples(st.just("create"), NAMES, st.sampled_from(list(Topology))),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("register"), NUMBERS, st.integers(1, 4)),
    st.tuples(st.just("acquire"), HOSTS, NAMES),
    st.tuples(st.just("release"), HOSTS, NAMES),
    st.tuples(st.just("publish"), HOSTS, NAMES, st.integers(2, 5)),
    st.tuples(st.just("unpublish"), HOSTS),
    st.tuples(st.just("reconnect")),
)


async def perform(overlay: Overlay, step: tuple[object, ...]) -> None:
    match step:
        case ("create", str(name), Topology() as topology):
            await make_network(overlay, NetworkName(name), topology=topology)
        case ("delete", str(name)):
            await overlay.networks.delete(BY_CONTROLLER, NetworkName(name))
        case ("register", int(number), int(last)):
            await overlay.hosts.register(
                BY_CONTROLLER, HostId(f"h{number}"), "name", IPv4Address(0xC0000200 + last), "i"
            )
        case ("acquire", str(host), str(name)):
            held = [block.cidr for block in overlay.blocks.select(NetworkName(name), HostId(host))]
            await overlay.blocks.acquire(BY_CONTROLLER, NetworkName(name), HostId(host), held)
        case ("release", str(host), str(name)):
            for block in overlay.blocks.select(NetworkName(name), HostId(host))[:1]:
                await overlay.blocks.release(BY_CONTROLLER, block.network, block.cidr, block.host)
        case ("publish", str(host), str(name), int(offset)):
            for block in overlay.blocks.select(NetworkName(name), HostId(host))[:1]:
                await overlay.endpoints.publish(BY_CONTROLLER, HostId(host), [make_endpoint(block, offset)], [])
        case ("unpublish", str(host)):
            await overlay.endpoints.replace(BY_CONTROLLER, HostId(host), [])


async def follow_through(directory: Path, groups: list[list[tuple[object, ...]]]) -> None:
    async with controllers(directory, 1) as (store, [overlay]):
        for number in (1, 2):
            await make_host(overlay, number)
        for name, topology in zip(("blue", "red"), Topology, strict=True):
            await make_network(overlay, NetworkName(name), topology=topology)
            await overlay.blocks.acquire(BY_CONTROLLER, NetworkName(name), H2, [])
        agent, expected = Agent(), dict[Revision, Cluster]()
        feed = Feed(Deltas(overlay.mirror), H1)
        overlay.mirror.listen(lambda _: feed.wake())
        following = asyncio.create_task(agent.follow(feed.messages(None)))
        for group in groups:
            outcomes = await asyncio.gather(*(perform(overlay, step) for step in group), return_exceptions=True)
            assert all(outcome is None or isinstance(outcome, OverlayError) for outcome in outcomes)
            now = visible_to(await whole_cluster(store), H1)
            expected[now.revision] = now
            if ("reconnect",) in group:
                following.cancel()
                await asyncio.wait([following])
                feed = Feed(Deltas(overlay.mirror), H1)
                following = asyncio.create_task(agent.follow(feed.messages(agent.cluster.revision)))
        following.cancel()
        await asyncio.wait([following])
        now = visible_to(await whole_cluster(store), H1)
        for known in [agent.cluster, *agent.past.values()]:
            assert known == expected.get(known.revision, known)
            resumed = Agent(known)
            await resumed.follow(replay(await opening(overlay, H1, known.revision)))
            assert resumed.cluster == now


@settings(max_examples=80)
@given(st.lists(st.lists(STEPS, min_size=1, max_size=3), max_size=25))
def test_an_agent_knows_what_it_must_whenever_it_connects(groups: list[list[tuple[object, ...]]]) -> None:
    with TemporaryDirectory() as directory:
        asyncio.run(follow_through(Path(directory), groups))


SIGNS = st.sampled_from([("remind",), ("keep",), ("stop",), ("go on",), ("reconnect",)])


async def read_while(is_open: asyncio.Event, messages: AsyncIterator[FeedMessage]) -> AsyncIterator[FeedMessage]:
    async for message in messages:
        await is_open.wait()
        yield message


async def stay_connected(directory: Path, groups: list[list[tuple[object, ...]]]) -> None:
    async with controllers(directory, 1) as (store, [overlay]):
        for number in (1, 2):
            await make_host(overlay, number)
        for name, topology in zip(("blue", "red"), Topology, strict=True):
            await make_network(overlay, NetworkName(name), topology=topology)
            for host in (H1, H2):
                await overlay.blocks.acquire(BY_CONTROLLER, NetworkName(name), host, [])
        agent, expected, is_open = Agent(), dict[Revision, Cluster](), asyncio.Event()
        is_open.set()
        with ExitStack() as opened:
            feed = opened.enter_context(overlay.feeds.open(H1, "i"))
            following = asyncio.create_task(agent.follow(read_while(is_open, feed.messages(None))))
            for group in groups:
                outcomes = await asyncio.gather(*(perform(overlay, step) for step in group), return_exceptions=True)
                assert all(outcome is None or isinstance(outcome, OverlayError) for outcome in outcomes)
                now = visible_to(await whole_cluster(store), H1)
                expected[now.revision] = now
                signs = {"remind": feed.remind, "keep": feed.keep_alive, "stop": is_open.clear, "go on": is_open.set}
                for name in signs.keys() & {step[0] for step in group}:
                    signs[name]()
                if ("reconnect",) in group or following.done():
                    opened.close()
                    following.cancel()
                    await asyncio.wait([following])
                    feed = opened.enter_context(overlay.feeds.open(H1, "i"))
                    said = feed.messages(agent.cluster.revision)
                    following = asyncio.create_task(agent.follow(read_while(is_open, said)))
            now = visible_to(await whole_cluster(store), H1)
            is_open.set()
            feed.remind()
            async with asyncio.timeout(30):
                while agent.cluster.revision != now.revision:
                    agent.news.clear()
                    await agent.news.wait()
            following.cancel()
            await asyncio.wait([following])
        assert agent.cluster == now
        for known in agent.past.values():
            assert known == expected.get(known.revision, known)


@settings(max_examples=80)
@given(st.lists(st.lists(st.one_of(STEPS, SIGNS), min_size=1, max_size=4), max_size=25))
def test_an_agent_that_stays_connected_knows_what_it_must(groups: list[list[tuple[object, ...]]]) -> None:
    """Also when a feed moves on without a word past what does not concern its host."""
    with TemporaryDirectory() as directory:
        asyncio.run(stay_connected(Path(directory), groups))
