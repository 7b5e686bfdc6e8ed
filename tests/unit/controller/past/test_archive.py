"""Questions to the history of several controllers, whose clocks differ and who all prune it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from controller.journal.actor import BY_CONTROLLER, CONTROLLER
from controller.journal.change_record import Recorder
from controller.overlay import Overlay
from controller.past.archive import PastChange, Search
from controller.past.pruning import HistoryLimits, Pruning
from controller.past.subjects import Subject
from controller.state import keys
from controller.store.embedded import EmbeddedStore
from controller.store.port import Committed, Page, PutKey, Transaction
from overlayd.model.errors import InvalidValue
from overlayd.model.host import Host
from overlayd.model.ids import HostId, HostNumber, Revision
from tests.support.controllers.overlays import (
    BLUE,
    H1,
    controller_on,
    controllers,
    make_host,
    make_network,
    pool,
    store_at,
)
from tests.support.controllers.virtual_clock import VirtualClock

pytestmark = pytest.mark.anyio

HOUR = 3600.0


class Counting(EmbeddedStore):
    """A store that counts the entries of the history that were read."""

    read = 0

    async def page(
        self, prefix: str, *, limit: int = 1000, after_key: str | None = None, revision: Revision | None = None
    ) -> Page:
        page = await super().page(prefix, limit=limit, after_key=after_key, revision=revision)
        self.read += len(page.items) if prefix == keys.HISTORY else 0
        return page


@asynccontextmanager
async def counting(path: Path, clock: VirtualClock) -> AsyncIterator[tuple[Counting, Overlay]]:
    store = Counting.open(path, clock)
    assert isinstance(store, Counting)
    running = asyncio.create_task(store.run())
    async with controller_on(store, clock=clock) as overlay:
        yield store, overlay
    running.cancel()
    await asyncio.wait([running])
    await store.close()


def a_host(number: int, name: str | None = None) -> Host:
    address = IPv4Address("192.0.2.0") + number
    return Host(HostId(f"h{number}"), HostNumber(number), name or f"host {number}", address)


async def write(overlay: Overlay, store: EmbeddedStore, at: float, host: Host, by: str = "c1") -> None:
    """Write a host and its entry as a controller does whose clock says `at`."""
    put = overlay.mirror.put(host)
    entry = Recorder(f"{by}{overlay.mirror.revision}").entry(at, CONTROLLER, overlay.mirror.form, [put])
    outcome = await store.commit(Transaction((), (put, PutKey(keys.INTENT, keys.EMPTY), entry)))
    assert isinstance(outcome, Committed)
    await overlay.mirror.reached(outcome.revision)


async def names_at(overlay: Overlay, moment: float) -> list[object]:
    return [found.form["name"] for found in (await overlay.archive.at(Subject(kind="host"), moment)).objects]


async def all_of(overlay: Overlay, search: Search) -> list[PastChange]:
    return await overlay.archive.changes(search, "", 10_000)


async def test_what_is_recent_costs_little_however_much_there_is(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with counting(tmp_path / "store.db", clock) as (store, overlay):
        now = clock.wall()
        for number in range(250):
            await write(overlay, store, now - (250 - number) * HOUR, a_host(1, f"then {number}"))
        store.read = 0
        newest = await overlay.archive.changes(Search(), "", 3)
        assert [change.after and change.after["name"] for change in newest] == ["then 249", "then 248", "then 247"]
        assert store.read < 30
        store.read = 0
        assert await names_at(overlay, now - 2.5 * HOUR) == ["then 247"]
        assert store.read < 10
        store.read = 0
        whole = await all_of(overlay, Search())
        assert len(whole) == 250
        assert store.read < 500
        middle = Search(since=now - 100.5 * HOUR, until=now - 98.5 * HOUR)
        store.read = 0
        found = await all_of(overlay, middle)
        assert [change.after and change.after["name"] for change in found] == ["then 151", "then 150"]
        assert store.read < 100


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_pages_miss_and_repeat_nothing_in_whatever_stretches_changes_lie(tmp_path: Path, limit: int) -> None:
    clock = VirtualClock()
    async with store_at(tmp_path / "s.db", clock) as store, controller_on(store, clock=clock) as overlay:
        for index, ago in enumerate((0, -5, 0.1, 0.9, 1, 1.1, 4.9, 5, 5.1, 20, 21, 21, 21, 85, 1e6, 1e6)):
            await write(overlay, store, clock.wall() - ago, a_host(index + 1))
        whole = await all_of(overlay, Search())
        assert len(whole) == 16
        assert [change.place for change in whole] == sorted((change.place for change in whole), reverse=True)
        seen: list[PastChange] = []
        while page := await overlay.archive.changes(Search(), seen[-1].place if seen else "", limit):
            seen += page
        assert seen == whole


async def test_what_is_no_place_in_the_history_is_refused(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        for place in ("x", "-1", "²"):
            with pytest.raises(InvalidValue) as refused:
                await overlay.archive.changes(Search(), place, 1)
            assert refused.value.field == "after"


async def test_any_time_may_be_asked_for(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        assert len(await all_of(overlay, Search(since=-1e10, until=2.5e11))) == 1
        assert await all_of(overlay, Search(until=-1e10)) == []
        assert await all_of(overlay, Search(since=2.5e11)) == []
        assert await names_at(overlay, -1e10) == []
        assert await names_at(overlay, 2.5e11) == ["host 1"]


async def test_controllers_whose_clocks_differ_tell_the_same_past(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with store_at(tmp_path / "s.db", clock) as store, controller_on(store, clock=clock) as overlay:
        now = clock.wall() - 1000
        await write(overlay, store, now, a_host(1, "first"))
        await write(overlay, store, now + 5, a_host(1, "second"), by="ahead")
        await write(overlay, store, now + 2, a_host(1, "third"), by="behind")
        assert await names_at(overlay, now - 1) == []
        assert await names_at(overlay, now + 1) == ["first"]
        assert await names_at(overlay, now + 3) == ["third"]
        assert await names_at(overlay, now + 6) == ["third"]


async def test_a_change_that_comes_while_the_past_is_told_is_no_part_of_it(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with store_at(tmp_path / "s.db", clock) as store, controller_on(store, clock=clock) as overlay:
        at = clock.wall()
        for number in range(1, 4):
            await write(overlay, store, at - 100, a_host(number))
        asked = [asyncio.create_task(names_at(overlay, at)) for _ in range(20)]
        await write(overlay, store, at + 1, a_host(1, "changed"))
        for each in asked:
            assert sorted(map(str, await each)) == ["host 1", "host 2", "host 3"]


async def test_hosts_that_are_gone_are_found_by_their_names(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        assert await overlay.archive.hosts_called("host 1") == {H1} == await overlay.archive.hosts_called("h1")
        await overlay.hosts.forget(BY_CONTROLLER, H1)
        assert await overlay.archive.hosts_called("host 1") == {H1}
        assert await overlay.archive.hosts_called("never") == frozenset()
        found = await all_of(overlay, Search(Subject(hosts=frozenset({"host 1", H1}))))
        assert {change.kind for change in found} == {"host", "block"}


async def test_what_another_version_wrote_beside_a_record_has_not_changed(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        network = await make_network(overlay)
        newer = json.loads(keys.encode_record(network)) | {"colour": "red"}
        put = PutKey(keys.of(network), json.dumps(newer).encode())
        outcome = await store.commit(Transaction((), (put, PutKey(keys.INTENT, keys.EMPTY))))
        assert isinstance(outcome, Committed)
        await overlay.mirror.reached(outcome.revision)
        wider = (pool(), pool("10.64.0.0/16"))
        await overlay.networks.update(BY_CONTROLLER, BLUE, lambda network: replace(network, pools=wider), None)
        change = (await all_of(overlay, Search()))[0]
        assert change.before
        assert change.after
        assert {name for name in change.after if change.before.get(name) != change.after[name]} == {"pools"}
        assert change.after["colour"] == "red"


async def test_controllers_that_prune_at_once_keep_what_is_to_be_kept(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with store_at(tmp_path / "s.db", clock) as store, controller_on(store, clock=clock) as overlay:
        for number in range(400):
            await write(overlay, store, clock.wall() - 1000 + number, a_host(1, f"then {number}"))
        limits = HistoryLimits(age=1e9, count=50)
        await asyncio.gather(*(Pruning(store, limits).prune(clock.wall()) for _ in range(3)))
        kept = await all_of(overlay, Search())
        assert [change.after and change.after["name"] for change in kept] == [f"then {n}" for n in range(399, 349, -1)]
        assert await overlay.archive.begins() == clock.wall() - 1000 + 349


async def test_a_controller_that_prunes_less_does_not_make_the_history_longer(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with store_at(tmp_path / "s.db", clock) as store, controller_on(store, clock=clock) as overlay:
        for number in range(3):
            await write(overlay, store, clock.wall() - 100 + number, a_host(1, f"then {number}"))
        await Pruning(store, HistoryLimits(count=1)).prune(clock.wall())
        begins = await overlay.archive.begins()
        assert begins == clock.wall() - 99
        await write(overlay, store, clock.wall() - 1000, a_host(1, "of a clock that is behind"))
        assert await Pruning(store, HistoryLimits(count=1)).prune(clock.wall()) == 1
        assert await overlay.archive.begins() == begins
