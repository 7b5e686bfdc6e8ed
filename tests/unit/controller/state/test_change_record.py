"""Every change is kept: who made it, when, and how things were before and after."""

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from controller.journal.actor import BY_CONTROLLER, Actor, Requester
from controller.overlay import Overlay
from controller.past.archive import PastChange, Search
from controller.past.pruning import HistoryLimits, Pruning
from controller.past.subjects import Subject
from controller.state import keys
from controller.store.port import PutKey, Store, Transaction
from overlayd.model.network import Topology
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

ALICE = Requester(Actor("alice", "operator"))
BOB = Requester(Actor("bob", "admin"))
ALL = 1000
EVERYTHING = Search()


async def changes(overlay: Overlay, search: Search = EVERYTHING) -> list[PastChange]:
    return await overlay.archive.changes(search, "", ALL)


def visible_to(found: list[PastChange]) -> list[tuple[str, str, bool, bool]]:
    return [(change.by.name, change.kind, change.before is not None, change.after is not None) for change in found]


async def test_a_change_has_actor_revision_before_and_after(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        made = (await overlay.networks.create(ALICE, BLUE, (pool(),), Topology.ROUTED, None)).revision
        wider = (pool(), pool("10.64.0.0/16"))
        amended = await overlay.networks.update(BOB, BLUE, lambda network: replace(network, pools=wider), None)
        gone = await overlay.networks.delete(ALICE, BLUE)
        found = await changes(overlay)
        assert visible_to(found) == [
            ("alice", "network", True, False),
            ("bob", "network", True, True),
            ("alice", "network", False, True),
        ]
        assert [change.revision for change in found] == [gone.revision, amended.revision, made]
        assert found[0].before == found[1].after
        assert found[1].before == found[2].after
        assert found[1].before != found[1].after


async def test_what_hosts_do_is_kept_too_and_found_by_what_it_is_about(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (_, [here, there]):
        await make_network(here)
        await make_host(here, 1)
        await make_host(there, 2)
        block = (await there.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        first, second = make_endpoint(block, 2), make_endpoint(block, 3)
        await here.endpoints.publish(BY_CONTROLLER, H1, [first, second], [])
        await there.endpoints.publish(BY_CONTROLLER, H1, [], [first.key])
        address = Search(Subject(address=IPv4Address(first.addresses[0])))
        assert [change.kind for change in await changes(here, address)] == ["endpoint", "endpoint", "block"]
        container = Search(Subject(container=second.container_id))
        assert visible_to(await changes(there, container)) == [("controller", "endpoint", False, True)]
        of_host = Search(Subject(hosts=frozenset({"h2"})))
        assert [change.kind for change in await changes(there, of_host)] == ["host"]
        assert {change.kind for change in await changes(there, Search(Subject(network="blue")))} == {
            "network",
            "block",
            "endpoint",
        }
        assert await changes(there, Search(Subject(network="red"))) == []
        assert await changes(there, Search(actor="alice")) == []


async def test_changes_come_in_pages_newest_first(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        for number in range(1, 26):
            await make_host(overlay, number)
        whole = await changes(overlay)
        seen: list[PastChange] = []
        while page := await overlay.archive.changes(Search(), seen[-1].place if seen else "", 10):
            seen += page
        assert seen == whole
        assert [change.after["id"] for change in seen if change.after] == [f"h{n}" for n in range(25, 0, -1)]


async def test_an_address_is_found_as_it_was_at_a_time(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with store_at(tmp_path / "store.db", clock) as store, controller_on(store, clock=clock) as overlay:
        await make_network(overlay)
        await make_host(overlay, 1)
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        first = make_endpoint(block, 2, "first")
        moments = [clock.wall()]
        for puts, deletes in (([first], []), ([], [first.key]), ([make_endpoint(block, 2, "second")], [])):
            await clock.advance(60)
            await overlay.endpoints.publish(BY_CONTROLLER, H1, puts, deletes)
            moments.append(clock.wall())
            await clock.advance(60)
        subject = Subject(kind="endpoint", address=first.addresses[0])

        async def containers(moment: float) -> list[object]:
            past = await overlay.archive.at(subject, moment)
            assert past.complete
            return [found.form["container_id"] for found in past.objects]

        assert [await containers(moment + 1) for moment in moments] == [[], ["first"], [], ["second"]]
        unchanged = await overlay.archive.at(Subject(kind="network"), moments[0] - 1000)
        assert unchanged.objects == ()


async def test_an_object_that_has_not_changed_since_the_history_began_was_as_it_is(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with store_at(tmp_path / "store.db", clock) as store, controller_on(store, clock=clock) as overlay:
        await make_network(overlay)
        await clock.advance(100)
        await make_host(overlay, 1)
        assert await Pruning(store, HistoryLimits(age=50)).prune(clock.wall()) == 1
        assert [change.kind for change in await changes(overlay)] == ["host"]
        then = await overlay.archive.at(Subject(kind="network"), clock.wall() - 75)
        assert [found.form["name"] for found in then.objects] == ["blue"]
        assert await overlay.archive.begins() == pytest.approx(clock.wall() - 100)
        assert (await overlay.archive.at(Subject(), clock.wall() - 150)).complete is False


async def test_the_oldest_of_too_many_entries_go(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        for number in range(1, 301):
            await make_host(overlay, number)
        before = await entries(store)
        assert await Pruning(store, HistoryLimits(age=1e12, count=20)).prune(VirtualClock().wall()) == 280
        assert await entries(store) == before[-20:]
        assert await Pruning(store, HistoryLimits(age=1e12, count=20)).prune(VirtualClock().wall()) == 0


async def test_the_mirror_is_not_told_of_the_history(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_network(overlay)
        at = overlay.mirror.revision
        await store.commit(Transaction((), (PutKey(f"{keys.HISTORY}x", b"no entry at all"),)))
        await make_host(overlay, 1)
        assert overlay.mirror.revision == at + 2
        assert not [key for key in await entries(store) if overlay.mirror.mod_revision(key)]


async def entries(store: Store) -> list[str]:
    return [item.key for item in (await store.page(keys.HISTORY)).items]
