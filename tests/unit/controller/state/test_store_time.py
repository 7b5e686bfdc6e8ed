"""A clock that jumps makes nothing older: history and tokens stay as long as they were to stay."""

from pathlib import Path

import pytest

from controller.identity.roles import Role
from controller.journal.actor import BY_CONTROLLER
from controller.overlay import Overlay
from controller.past.pruning import HistoryLimits, Pruning
from controller.state.store_time import StoreTime
from controller.store.port import Store
from tests.support.controllers.overlays import controller_on, make_host, make_network, store_at
from tests.support.controllers.virtual_clock import VirtualClock

pytestmark = pytest.mark.anyio

DAY = 86_400.0
YEAR = 365 * DAY
LIMITS = HistoryLimits(age=30 * DAY)


class JumpingClock(VirtualClock):
    """A virtual clock whose time of day is set by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = 0.0

    def wall(self) -> float:
        return super().wall() + self.offset


async def tidied(store: Store, overlay: Overlay, time: StoreTime) -> int | None:
    """Forget what is due, as a controller does; return how many entries of the history that were, None: not looked."""
    now = await time.advance()
    if now is None:
        return None
    await overlay.tokens.purge(now)
    return await Pruning(store, LIMITS).prune(now)


async def test_a_clock_that_jumps_forward_makes_nothing_older(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with store_at(tmp_path / "store.db", clock) as store, controller_on(store, clock=clock) as overlay:
        await make_network(overlay)
        await overlay.tokens.create(BY_CONTROLLER, "carol", Role.VIEWER, 3600)
        assert await tidied(store, overlay, overlay.time) == 0
        clock.offset = YEAR
        assert await tidied(store, overlay, overlay.time) == 0
        # Neither for a controller that starts with such a clock.
        assert await tidied(store, overlay, StoreTime(store, clock)) == 0
        assert [token.name for token in overlay.tokens.all()] == ["carol"]
        clock.offset = 0.0
        assert await tidied(store, overlay, overlay.time) == 0


async def test_a_clock_that_jumps_back_makes_nothing_older_either(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with store_at(tmp_path / "store.db", clock) as store, controller_on(store, clock=clock) as overlay:
        await make_network(overlay)
        await tidied(store, overlay, overlay.time)
        clock.offset = -YEAR
        await make_host(overlay, 1)
        assert await tidied(store, overlay, overlay.time) is None
        clock.offset = 0.0  # and what was written meanwhile counts as written then
        assert await tidied(store, overlay, overlay.time) == 0


async def test_time_that_passes_makes_things_older(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with store_at(tmp_path / "store.db", clock) as store, controller_on(store, clock=clock) as overlay:
        time = StoreTime(store, clock)
        await make_network(overlay)
        await overlay.tokens.create(BY_CONTROLLER, "carol", Role.VIEWER, 3600)
        start = await time.advance()
        clock.pass_without_waking(31 * DAY)
        assert await time.advance() == pytest.approx((start or 0.0) + 31 * DAY)
        assert await tidied(store, overlay, time) == 2
        assert overlay.tokens.all() == []


async def test_several_controllers_do_not_make_time_pass_faster(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with store_at(tmp_path / "store.db", clock) as store:
        times = [StoreTime(store, clock) for _ in range(5)]
        start = await times[0].advance()
        clock.offset = YEAR
        at = start
        for _ in range(10):
            for time in times:
                at = await time.advance()
            clock.pass_without_waking(100)
        assert at is not None
        assert start is not None
        assert at - start <= 1.1 * 1000
