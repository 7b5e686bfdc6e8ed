"""What was given back rests: nobody gets it until the store's lease ends, and then anybody may."""

from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.journal.actor import BY_CONTROLLER
from controller.overlay import Overlay
from controller.state import keys
from overlayd.model.errors import Exhausted, InUse
from overlayd.model.network import Network
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
)

pytestmark = pytest.mark.anyio

BRIEF = 0.1
"""Seconds; the embedded store looks for leases that ended twice a second."""

WHOLE = IPv4Network("10.32.0.0/24")


async def with_one_block(overlay: Overlay) -> None:
    """Make network blue of one block only, and let h1 have and give back that one."""
    await make_network(overlay, of=pool(str(WHOLE), 24))
    await make_host(overlay, 1)
    await make_host(overlay, 2)
    await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
    await overlay.blocks.release(BY_CONTROLLER, BLUE, WHOLE, H1)


async def test_a_released_block_is_for_nobody(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (_, [here, there]):
        await with_one_block(here)
        await there.mirror.reached(here.mirror.revision)
        for overlay, host in ((here, H1), (here, H2), (there, H1)):
            with pytest.raises(Exhausted, match="1 of them by the quarantine after their release; add a range"):
                await overlay.blocks.acquire(BY_CONTROLLER, BLUE, host, [])


async def test_a_released_block_is_for_anybody_when_its_time_is_up(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1, BRIEF) as (_, [overlay]):
        await with_one_block(overlay)
        await until(overlay, lambda: not overlay.mirror.occupancy.space(BLUE).withheld)
        assert (await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H2, [])).result.cidr == WHOLE


async def test_quarantine_ends_without_any_controller(tmp_path: Path) -> None:
    async with store_at(tmp_path / "store.db", SystemClock()) as store:
        async with controller_on(store, "c1", BRIEF) as overlay:
            await with_one_block(overlay)
        async with controller_on(store, "c2") as later:
            await until(later, lambda: not later.mirror.occupancy.space(BLUE).withheld)
            assert (await later.blocks.acquire(BY_CONTROLLER, BLUE, H2, [])).result.cidr == WHOLE


async def test_quarantine_outlasts_a_restart_of_the_store(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await with_one_block(overlay)
    async with controllers(tmp_path, 1) as (_, [overlay]):
        with pytest.raises(Exhausted):
            await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])


async def test_a_network_of_the_same_name_waits_for_the_quarantine_of_the_one_before(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1, BRIEF) as (store, [overlay]):
        await with_one_block(overlay)
        await overlay.networks.delete(BY_CONTROLLER, BLUE)
        assert keys.withheld(BLUE, WHOLE) in await stored(store)
        await make_network(overlay, of=pool("10.32.0.0/23", 26))
        assert str((await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result.cidr) == "10.32.1.0/26"
        await until(overlay, lambda: not overlay.mirror.occupancy.space(BLUE).withheld)
        assert str((await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H2, [])).result.cidr) == "10.32.0.0/26"


async def test_a_range_with_something_in_quarantine_stays(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1, BRIEF) as (_, [overlay]):
        await with_one_block(overlay)

        def elsewhere(network: Network) -> Network:
            return replace(network, pools=(pool("10.40.0.0/24"),))

        with pytest.raises(InUse, match=r"10\.32\.0\.0/24 is in quarantine"):
            await overlay.networks.update(BY_CONTROLLER, BLUE, elsewhere)
        await until(overlay, lambda: not overlay.mirror.occupancy.space(BLUE).withheld)
        assert (await overlay.networks.update(BY_CONTROLLER, BLUE, elsewhere)).result.pools == (pool("10.40.0.0/24"),)
