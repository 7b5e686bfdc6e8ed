"""A watch tells what exists, and then every change, each once."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from controller.services.overlay import Overlay
from controller.services.watches import STREAMS_MAX, Filter, Watch
from overlayd.model.endpoint import Endpoint
from overlayd.model.errors import Compacted, Unavailable
from overlayd.model.ids import NetworkName, Revision
from overlayd.model.network import Network
from tests.unit.controller.overlays import BLUE, H1, controllers, make_endpoint, make_host, make_network

pytestmark = pytest.mark.anyio

EVERYTHING = Filter(None, None)
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


async def changes_after(overlay: Overlay, revision: Revision, wanted: Filter = EVERYTHING) -> list[tuple[str, str]]:
    watch = overlay.watches.prepare(wanted, revision)
    with overlay.watches.open(watch):
        return summary(await read_until(watch, "bookmark"))


async def test_a_watch_begins_with_what_exists(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        await overlay.blocks.acquire(BLUE, H1, [])
        watch = overlay.watches.prepare(EVERYTHING, None)
        with overlay.watches.open(watch):
            lines = await read_until(watch, "in-sync")
        assert summary(lines) == [("put", "network"), ("put", "host"), ("put", "block")]
        assert {line["revision"] for line in lines} == {overlay.mirror.intent_revision}


async def test_every_change_is_told_also_that_of_endpoints_of_a_routed_network(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (_, [here, there]):
        await make_network(here)
        start = here.mirror.intent_revision
        await make_host(here, 1)
        block = (await there.blocks.acquire(BLUE, H1, [])).result
        endpoint = make_endpoint(block, 2)
        await there.endpoints.publish(H1, [endpoint], [])
        await there.endpoints.publish(H1, [], [endpoint.key])
        await here.mirror.reached(there.mirror.revision)
        assert await changes_after(here, start) == [
            ("put", "host"),
            ("put", "block"),
            ("put", "endpoint"),
            ("delete", "endpoint"),
        ]
        assert await changes_after(here, start, Filter(Endpoint, BLUE)) == [("put", "endpoint"), ("delete", "endpoint")]


async def test_a_filter_admits_what_it_names(tmp_path: Path) -> None:
    red = NetworkName("red")
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        for name in (BLUE, red):
            await make_network(overlay, name)
            await overlay.blocks.acquire(name, H1, [])
        for wanted, told in (
            (Filter(Network, None), [("put", "network"), ("put", "network")]),
            (Filter(None, red), [("put", "network"), ("put", "block")]),
            (Filter(Network, red), [("put", "network")]),
        ):
            watch = overlay.watches.prepare(wanted, None)
            with overlay.watches.open(watch):
                assert summary(await read_until(watch, "in-sync")) == told


async def test_a_change_wakes_a_watch_that_waits(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        watch = overlay.watches.prepare(Filter(Network, None), overlay.mirror.intent_revision)
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
            overlay.watches.prepare(EVERYTHING, Revision(10_000))


async def test_there_are_only_so_many_watches(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        watches = [overlay.watches.prepare(EVERYTHING, None) for _ in range(STREAMS_MAX)]
        opened = [overlay.watches.open(watch) for watch in watches]
        for each in opened:
            each.__enter__()
        with pytest.raises(Unavailable):
            overlay.watches.prepare(EVERYTHING, None)
        opened[0].__exit__(None, None, None)
        overlay.watches.prepare(EVERYTHING, None)
