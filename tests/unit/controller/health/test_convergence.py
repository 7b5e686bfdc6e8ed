"""What is known of hosts now, and on which of them a revision is in force."""

import asyncio
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.identity.roles import Role
from controller.journal.actor import BY_CONTROLLER
from controller.overlay import Overlay
from controller.state import keys
from controller.state.host_presence import HostPresence, HostProblem
from overlayd.model.errors import AlreadyExists, InvalidValue, NotFound
from overlayd.model.ids import HostId, NetworkName, Revision
from overlayd.model.network import Topology
from tests.support.controllers.overlays import (
    BLUE,
    H1,
    H2,
    controller_on,
    controllers,
    make_host,
    make_network,
    pool,
    store_at,
    stored,
    until,
    until_heard,
)
from tests.support.controllers.virtual_clock import VirtualClock

pytestmark = pytest.mark.anyio


def lags(
    overlay: Overlay, revision: Revision | None = None, network: NetworkName | None = None
) -> dict[HostId, str | None]:
    found = overlay.statuses.convergence(revision, network)
    assert found.in_force == sum(lag is None for _, lag in found.lags)
    return {status.host.id: lag for status, lag in found.lags}


async def test_a_revision_is_in_force_where_the_kernel_matches_it(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (_, [here, there]):
        for number in (1, 2):
            await make_host(here, number)
        await make_network(here)
        await here.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        await make_host(here, 3)  # which concerns all hosts
        at = here.mirror.intent_revision
        older = Revision(at - 1)
        with here.feeds.open(H1, "i1"), there.feeds.open(H2, "i2"):
            await until_heard(here, H2, lambda presence: presence is not None)
            await until_heard(here, H1, lambda presence: presence is not None)
            assert lags(here) == {
                "h1": "has not reported yet",
                "h2": "has not reported yet",
                "h3": "not connected",
            }
            here.connections.report(H1, "i1", at, ())
            there.connections.report(H2, "i2", older, ())
            await until(here, lambda: lags(here) == {"h1": None, "h2": f"at revision {older}", "h3": "not connected"})
            assert lags(here, older) == {"h1": None, "h2": None, "h3": "not connected"}
            assert lags(here, network=BLUE) == {"h1": None}
            problem = HostProblem("network blue", "UDP port 4789 is taken")
            here.connections.report(H1, "i1", at, (problem, problem))
            await until(here, lambda: lags(here, at)[H1] == "network blue: UDP port 4789 is taken, and 1 more")


async def test_a_revision_that_says_nothing_to_a_host_is_in_force_there_with_the_one_before(tmp_path: Path) -> None:
    """Hosts hear of it by bookmarks, which take seconds in a large cluster: nobody waits for those."""
    async with controllers(tmp_path, 2) as (_, [here, there]):
        for number in (1, 2):
            await make_host(here, number)
        await make_network(here)
        before = here.mirror.intent_revision
        with here.feeds.open(H1, "i1"), there.feeds.open(H2, "i2"):
            here.connections.report(H1, "i1", before, ())
            there.connections.report(H2, "i2", before, ())
            await until(here, lambda: lags(here) == {"h1": None, "h2": None})
            await here.blocks.acquire(BY_CONTROLLER, BLUE, H2, [])
            await there.mirror.reached(here.mirror.revision)
            for overlay in (here, there):
                assert lags(overlay) == {"h1": None, "h2": f"at revision {before}"}
            await there.mirror.load()  # what was missed may have concerned them all
            assert lags(there) == {"h1": f"at revision {before}", "h2": f"at revision {before}"}


async def test_a_problem_of_one_network_is_none_of_another(tmp_path: Path) -> None:
    red = NetworkName("red")
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        for name in (BLUE, red):
            await make_network(overlay, name)
            await overlay.blocks.acquire(BY_CONTROLLER, name, H1, [])
        at = overlay.mirror.intent_revision
        with overlay.feeds.open(H1, "i1"):
            await until_heard(overlay, H1, lambda presence: presence is not None)
            overlay.connections.report(H1, "i1", at, (HostProblem("link vx0", "busy", BLUE),))
            await until(overlay, lambda: lags(overlay, network=red) == {"h1": None})
            assert lags(overlay) == lags(overlay, network=BLUE) == {"h1": "link vx0: busy"}
            overlay.connections.report(H1, "i1", at, (HostProblem("host", "no underlay"),))
            await until(overlay, lambda: lags(overlay, network=red) == {"h1": "host: no underlay"})


async def test_who_waits_is_answered_when_the_last_host_is_there(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        await make_host(overlay, 2)
        at = overlay.mirror.intent_revision
        with overlay.feeds.open(H1, "i1"), overlay.feeds.open(H2, "i2"):
            waiting = asyncio.create_task(overlay.statuses.settled(None, None, 60, SystemClock()))
            for host, instance in ((H1, "i1"), (H2, "i2")):
                await until_heard(overlay, host, lambda presence: presence is not None)
                overlay.connections.report(host, instance, at, ())
            found = await waiting
            assert (found.in_force, found.revision) == (2, at)
        await until_heard(overlay, H1, lambda presence: presence is None)
        assert (await overlay.statuses.settled(None, None, 0, SystemClock())).in_force < 2


async def test_a_revision_that_is_yet_to_come_is_refused(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        with pytest.raises(InvalidValue, match="no revision 99 yet") as caught:
            await overlay.statuses.settled(Revision(99), None, 0, SystemClock())
        assert caught.value.field == "revision"


async def test_a_revision_that_changed_nothing_of_the_intent_is_in_force_with_the_one_before(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        at = overlay.mirror.intent_revision
        aside = (await overlay.tokens.create(BY_CONTROLLER, "ci", Role.VIEWER, None)).revision
        with overlay.feeds.open(H1, "i1"):
            await until_heard(overlay, H1, lambda presence: presence is not None)
            overlay.connections.report(H1, "i1", at, ())
            found = await overlay.statuses.settled(aside, None, 30, SystemClock())
        assert aside > at
        assert (found.revision, found.in_force) == (aside, 1)


async def test_a_controller_that_is_behind_catches_up_before_it_answers(tmp_path: Path) -> None:
    async with (
        store_at(tmp_path / "store.db", SystemClock()) as store,
        controller_on(store) as ahead,
        controller_on(store, "c2") as behind,
    ):
        for number in range(1, 30):
            at = (
                await ahead.networks.create(BY_CONTROLLER, NetworkName(f"n{number}"), (pool(),), Topology.ROUTED, None)
            ).revision
            assert (await behind.statuses.settled(at, None, 0, SystemClock())).revision == at
            assert (await behind.statuses.settled(None, None, 0, SystemClock())).revision == at
            assert (await behind.statuses.settled(None, NetworkName(f"n{number}"), 0, SystemClock())).in_force == 0


async def test_who_waits_for_a_network_is_not_kept_by_hosts_that_leave_it(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay)
        for number, host in ((1, H1), (2, H2)):
            await make_host(overlay, number)
            await overlay.blocks.acquire(BY_CONTROLLER, BLUE, host, [])
        block = next(block for block in overlay.mirror.intent.blocks_of(H2))
        with overlay.feeds.open(H1, "i1"):
            await until_heard(overlay, H1, lambda presence: presence is not None)
            at = overlay.mirror.intent_revision
            overlay.connections.report(H1, "i1", at, ())
            waiting = asyncio.create_task(overlay.statuses.settled(at, BLUE, 60, SystemClock()))
            await overlay.blocks.release(BY_CONTROLLER, block.network, block.cidr, H2)
            found = await waiting
        assert {status.host.id: lag for status, lag in found.lags} == {"h1": None}


async def test_a_host_that_is_forgotten_keeps_nobody_waiting(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        await make_host(overlay, 2)
        with overlay.feeds.open(H1, "i1"):
            await until_heard(overlay, H1, lambda presence: presence is not None)
            at = overlay.mirror.intent_revision
            overlay.connections.report(H1, "i1", at, ())
            waiting = asyncio.create_task(overlay.statuses.settled(at, None, 60, SystemClock()))
            await overlay.hosts.forget(BY_CONTROLLER, H2)
            found = await waiting
        assert {status.host.id: lag for status, lag in found.lags} == {"h1": None}


async def test_who_waits_for_a_network_that_is_deleted_is_told_so(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay)
        await make_host(overlay, 1)
        block = (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result
        waiting = asyncio.create_task(overlay.statuses.settled(None, BLUE, 60, SystemClock()))
        await overlay.networks.delete(BY_CONTROLLER, BLUE)
        await overlay.blocks.release(BY_CONTROLLER, block.network, block.cidr, H1)
        with pytest.raises(NotFound):
            await waiting


async def test_a_network_that_does_not_exist_has_no_convergence(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        with pytest.raises(NotFound):
            overlay.statuses.convergence(None, NetworkName("nope"))


async def test_a_host_that_goes_away_is_not_connected(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, [here, there]):
        await make_host(here, 1)
        with here.feeds.open(H1, "i1"):
            await until_heard(there, H1, lambda presence: presence is not None)
        await until_heard(there, H1, lambda presence: presence is None)
        assert not [key for key in await stored(store) if key.startswith(keys.PRESENCE)]


async def test_a_host_that_changes_over_stays_connected_when_the_old_controller_notices(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, [here, there]):
        await make_host(here, 1)
        with there.feeds.open(H1, "i1"):
            with here.feeds.open(H1, "i1"):
                await until_heard(there, H1, lambda presence: presence is not None and presence.controller == "c0")
            await until_heard(there, H1, lambda presence: presence is not None and presence.controller == "c1")
            with here.feeds.open(H1, "i1"):
                await until_heard(there, H1, lambda presence: presence is not None and presence.controller == "c0")
                there.connections.report(H1, "i1", Revision(1), ())
                await until_heard(there, H1, lambda presence: presence is not None and presence.controller == "c1")
        await until_heard(there, H1, lambda presence: presence is None)
        assert not [key for key in await stored(store) if key.startswith(keys.PRESENCE)]


async def test_reports_need_a_feed_of_the_same_instance(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        with pytest.raises(NotFound):
            overlay.connections.report(H1, "i1", Revision(1), ())
        with overlay.feeds.open(H1, "i1"), pytest.raises(AlreadyExists) as refused:
            overlay.connections.report(H1, "i2", Revision(1), ())
        assert refused.value.field == "instance"


async def test_hosts_of_a_controller_that_died_vanish_and_those_of_the_others_come_back(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with store_at(tmp_path / "store.db", clock) as store, controller_on(store, "lives") as living:
        for number in (1, 2):
            await make_host(living, number)
        with living.feeds.open(H2, "i2"):
            async with controller_on(store, "dies") as dying:
                with dying.feeds.open(H1, "i1"):
                    await until_heard(living, H1, lambda presence: presence is not None)
                    await until_heard(living, H2, lambda presence: presence is not None)
                    living.connections.report(H2, "i2", Revision(1), ())
            assert living.mirror.presence(H1) == HostPresence(H1, "dies", "i1")
            # The store's time alone passes, and both leases end; one has somebody who notices.
            await clock.advance(11)
            await until_heard(living, H1, lambda presence: presence is None)
            await until_heard(living, H2, lambda presence: presence is not None and presence.applied == Revision(1))


async def test_a_controller_that_stops_takes_its_hosts_with_it(tmp_path: Path) -> None:
    async with store_at(tmp_path / "store.db", SystemClock()) as store, controller_on(store, "stays") as staying:
        await make_host(staying, 1)
        async with controller_on(store, "stops") as stopping:
            with stopping.feeds.open(H1, "i1"):
                await until_heard(staying, H1, lambda presence: presence is not None)
                await stopping.connections.withdraw()
                await until_heard(staying, H1, lambda presence: presence is None)
