"""A watch tells what exists, and then every change, each once."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from controller.clock import SystemClock
from controller.identity.roles import Role
from controller.journal.actor import BY_CONTROLLER
from controller.overlay import Overlay
from controller.state.mirror import Mirror
from controller.streams.watch_lines import PIECE_MAX, WatchFilter
from controller.streams.watch_snapshots import AGE_MAX, WatchSnapshots
from controller.streams.watches import SNAPSHOT_TIME, STREAMS_MAX, Watch
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import Compacted, Unavailable
from overlayd.model.ids import NetworkName, Revision
from overlayd.model.network import Network
from tests.support.controllers.overlays import (
    BLUE,
    H1,
    controller_on,
    controllers,
    make_endpoint,
    make_host,
    make_network,
    pool,
    store_at,
)
from tests.support.controllers.virtual_clock import VirtualClock

pytestmark = pytest.mark.anyio

EVERYTHING = WatchFilter(None, None)
Line = dict[str, Any]


async def read_until(watch: Watch, wanted: str) -> list[Line]:
    """Return lines up to and with the first one of a type."""
    found: list[Line] = []
    async with asyncio.timeout(10):
        async for lines in watch.lines():
            found += [json.loads(line) for line in lines.splitlines()]
            if any(line["type"] == wanted for line in found):
                return found
    raise AssertionError(f"the watch ended without {wanted}")


def summary(lines: list[Line]) -> list[tuple[str, str]]:
    return [(line["type"], line["kind"]) for line in lines if "kind" in line]


async def changes_after(
    overlay: Overlay, revision: Revision, wanted: WatchFilter = EVERYTHING
) -> list[tuple[str, str]]:
    watch = await overlay.watches.prepare(wanted, revision)
    with overlay.watches.open(watch):
        return summary(await read_until(watch, "bookmark"))


async def test_a_watch_begins_with_what_exists(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        watch = await overlay.watches.prepare(EVERYTHING, None)
        with overlay.watches.open(watch):
            lines = await read_until(watch, "in-sync")
        assert summary(lines) == [("put", "network"), ("put", "host"), ("put", "block")]
        assert {line["revision"] for line in lines} == {overlay.mirror.intent_revision}


async def test_every_change_is_told_also_that_of_endpoints_of_a_routed_network(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (_, [here, there]):
        await make_network(here)
        start = here.mirror.intent_revision
        await make_host(here, 1)
        block = (await there.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        endpoint = make_endpoint(block, 2)
        await there.endpoints.publish(BY_CONTROLLER, H1, [endpoint], [])
        await there.endpoints.publish(BY_CONTROLLER, H1, [], [endpoint.key])
        await here.mirror.reached(there.mirror.revision)
        assert await changes_after(here, start) == [
            ("put", "host"),
            ("put", "block"),
            ("put", "endpoint"),
            ("delete", "endpoint"),
        ]
        assert await changes_after(here, start, WatchFilter(Endpoint, BLUE)) == [
            ("put", "endpoint"),
            ("delete", "endpoint"),
        ]


async def test_a_filter_admits_what_it_names(tmp_path: Path) -> None:
    red = NetworkName("red")
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        for name in (BLUE, red):
            await make_network(overlay, name)
            await overlay.blocks.acquire(BY_CONTROLLER, name, H1, [])
        for wanted, expected in (
            (WatchFilter(Network, None), [("put", "network"), ("put", "network")]),
            (WatchFilter(None, red), [("put", "network"), ("put", "block")]),
            (WatchFilter(Network, red), [("put", "network")]),
        ):
            watch = await overlay.watches.prepare(wanted, None)
            with overlay.watches.open(watch):
                assert summary(await read_until(watch, "in-sync")) == expected


async def test_a_change_wakes_a_watch_that_waits(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        watch = await overlay.watches.prepare(WatchFilter(Network, None), overlay.mirror.intent_revision)
        with overlay.watches.open(watch):
            reading = asyncio.create_task(read_until(watch, "bookmark"))
            await make_host(overlay, 1)
            made = await make_network(overlay)
            lines = await reading
        assert [line["object"]["name"] for line in lines if line["type"] == "put"] == [made.name]
        assert lines[-1]["revision"] == overlay.mirror.intent_revision


async def test_a_revision_that_is_forgotten_or_yet_to_come_is_refused(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay)
        with pytest.raises(Compacted):
            await overlay.watches.prepare(EVERYTHING, Revision(10_000))


async def test_there_are_only_so_many_watches(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        watches = [await overlay.watches.prepare(EVERYTHING, None) for _ in range(STREAMS_MAX)]
        opened = [overlay.watches.open(watch) for watch in watches]
        for each in opened:
            each.__enter__()
        with pytest.raises(Unavailable):
            await overlay.watches.prepare(EVERYTHING, None)
        opened[0].__exit__(None, None, None)
        await overlay.watches.prepare(EVERYTHING, None)


async def many(overlay: Overlay, number: int) -> None:
    """Let host 1 have so many endpoints."""
    await make_network(overlay, of=pool("10.32.0.0/16", 20))
    await make_host(overlay, 1)
    block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
    await overlay.endpoints.publish(
        BY_CONTROLLER, H1, [make_endpoint(block, offset) for offset in range(2, number + 2)], []
    )


@pytest.mark.parametrize("resumed", [False, True])
async def test_what_a_reader_must_be_told_comes_in_small_pieces(tmp_path: Path, *, resumed: bool) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await many(overlay, 2500)
        watch = await overlay.watches.prepare(EVERYTHING, Revision(0) if resumed else None)
        lines: list[Line] = []
        sizes: list[int] = []
        with overlay.watches.open(watch):
            async for piece in watch.lines():
                sizes.append(len(piece))
                lines += [json.loads(line) for line in piece.splitlines()]
                if lines[-1]["type"] in {"in-sync", "bookmark"} and lines[-1]["revision"] == overlay.mirror.revision:
                    break
        containers = [line["object"]["container_id"] for line in lines if line.get("kind") == "endpoint"]
        assert len(containers) == len(set(containers)) == 2500
        of_one_revision = 100 * max(len(json.dumps(line)) for line in lines)
        assert max(sizes) < PIECE_MAX + of_one_revision


async def test_who_begins_later_shares_what_existed_and_is_told_what_changed(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        first = await overlay.watches.prepare(EVERYTHING, None)
        with overlay.watches.open(first):
            await read_until(first, "in-sync")
        await make_host(overlay, 2)
        second = await overlay.watches.prepare(EVERYTHING, None)
        with overlay.watches.open(second):
            lines = await read_until(second, "bookmark")
        assert [line.get("object", {}).get("id", line["type"]) for line in lines] == ["h1", "in-sync", "h2", "bookmark"]


async def test_a_snapshot_is_young(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with store_at(tmp_path / "s.db", clock) as store, controller_on(store, clock=clock) as overlay:
        await make_host(overlay, 1)
        first = overlay.watches.snapshots.take()
        assert overlay.watches.snapshots.take() is first
        await make_host(overlay, 2)
        assert overlay.watches.snapshots.take() is first
        await clock.advance(AGE_MAX + 1)
        assert overlay.watches.snapshots.take().revision == overlay.mirror.intent_revision > first.revision


async def test_a_snapshot_is_not_given_when_changes_after_it_are_forgotten(tmp_path: Path) -> None:
    async with store_at(tmp_path / "s.db", SystemClock()) as store:
        mirror = Mirror(store, SystemClock(), 1)
        await mirror.load()
        snapshots = WatchSnapshots(mirror, SystemClock())
        first = snapshots.take()
        async with controller_on(store) as overlay:
            await make_host(overlay, 1)
            await make_host(overlay, 2)
        await mirror.load()
        assert snapshots.take().revision == mirror.intent_revision > first.revision


async def test_a_reader_that_takes_too_long_for_what_exists_comes_to_the_end(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with store_at(tmp_path / "s.db", clock) as store, controller_on(store, clock=clock) as overlay:
        await many(overlay, 1000)
        watch = await overlay.watches.prepare(EVERYTHING, None)
        with overlay.watches.open(watch):
            pieces = watch.lines()
            await anext(pieces)
            await anext(pieces)
            await clock.advance(SNAPSHOT_TIME + 1)
            with pytest.raises(StopAsyncIteration):
                await anext(pieces)


async def test_a_watch_goes_on_at_another_controller_that_has_yet_to_hear_of_it(tmp_path: Path) -> None:
    async with (
        store_at(tmp_path / "store.db", SystemClock()) as store,
        controller_on(store) as ahead,
        controller_on(store, "c2") as behind,
    ):
        for number in range(1, 30):
            await make_host(ahead, number)
            await behind.watches.prepare(EVERYTHING, ahead.mirror.intent_revision)


async def test_a_revision_that_changed_no_record_is_known_too(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        aside = (await overlay.tokens.create(BY_CONTROLLER, "ci", Role.VIEWER, None)).revision
        assert aside > overlay.mirror.intent_revision
        await make_network(overlay)
        assert await changes_after(overlay, aside) == [("put", "network")]
