"""One instance of a host's agent at a time, whichever controllers it and its doubles come to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.journal.actor import BY_CONTROLLER
from controller.overlay import Overlay
from controller.state import keys
from controller.store.port import Store
from overlayd.model.errors import AlreadyExists
from overlayd.wire.feed import InSync
from tests.support.controllers.overlays import (
    H1,
    controller_on,
    controllers,
    make_host,
    store_at,
    stored,
    until_heard,
    whole_cluster,
)
from tests.support.controllers.virtual_clock import VirtualClock

pytestmark = pytest.mark.anyio

FIRST = IPv4Address("192.0.2.1")
SECOND = IPv4Address("192.0.2.2")


@asynccontextmanager
async def behind(store: Store, meanwhile: Overlay) -> AsyncIterator[Overlay]:
    """Run a controller that has yet to hear that host h1 connected to another one."""
    late = Overlay(store, SystemClock(), "late")
    await late.load()
    with meanwhile.feeds.open(H1, "i1"):
        await until_heard(meanwhile, H1, lambda presence: presence is not None)
        yield late


async def test_a_double_is_refused_by_a_controller_that_has_yet_to_hear_of_the_first(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        async with behind(store, overlay) as late:
            registering = asyncio.create_task(late.hosts.register(BY_CONTROLLER, H1, "clone", SECOND, "i2"))
            await asyncio.sleep(0)  # it makes its draft of what it knows
            following = asyncio.create_task(late.run())
            with pytest.raises(AlreadyExists, match=r"connected from 192\.0\.2\.1"):
                await registering
            following.cancel()
        assert (await whole_cluster(store)).hosts[H1].address == FIRST


async def test_of_two_machines_with_one_id_that_start_at_once_one_gets_a_feed(tmp_path: Path) -> None:
    async with controllers(tmp_path, 2) as (store, [here, there]):
        await asyncio.gather(
            here.hosts.register(BY_CONTROLLER, H1, "original", FIRST, "i1"),
            there.hosts.register(BY_CONTROLLER, H1, "clone", SECOND, "i2"),
            return_exceptions=True,  # one may have been in time, or both one after the other
        )
        winner = (await whole_cluster(store)).hosts[H1].address
        for overlay in (here, there):
            await overlay.mirror.reached(await store.current_revision())
        admitted = []
        for overlay, instance in ((here, "i1"), (there, "i2")):
            try:
                await overlay.feeds.admit(H1, instance, None)
                admitted.append(instance)
            except AlreadyExists as refused:
                assert refused.field == "instance"  # noqa: PT017 - both outcomes are looked at
        assert admitted == ["i1" if winner == FIRST else "i2"]


async def test_an_agent_that_starts_anew_moves_no_revision_and_leaves_no_history(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        first = await overlay.hosts.register(BY_CONTROLLER, H1, "one", FIRST, "i1")
        before = await stored(store)
        history = (await store.page(keys.HISTORY)).items
        assert await overlay.hosts.register(BY_CONTROLLER, H1, "one", FIRST, "i2") == first
        changed = {key for key, item in (await stored(store)).items() if item != before.get(key)}
        assert changed == {keys.instance(H1)}
        assert (await store.page(keys.HISTORY)).items == history


async def test_a_feed_whose_host_registered_anew_elsewhere_ends(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with store_at(tmp_path / "store.db", SystemClock()) as store, controller_on(store) as there:
        here = Overlay(store, clock, "here")
        await here.load()
        following = asyncio.create_task(here.run())
        await there.hosts.register(BY_CONTROLLER, H1, "one", FIRST, "i1")
        await here.mirror.reached(there.mirror.revision)
        with here.feeds.open(H1, "i1") as feed:
            said = feed.messages(there.mirror.intent_revision)
            assert isinstance(await anext(said), InSync)
            await there.hosts.register(BY_CONTROLLER, H1, "one", FIRST, "i2")
            await here.mirror.reached(there.mirror.revision)
            rest = asyncio.ensure_future(anext(said, None))
            await clock.advance(3)
            assert await rest is None
        following.cancel()
        await asyncio.wait([following])


async def test_a_forgotten_host_leaves_no_instance_behind(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, [overlay]):
        await make_host(overlay, 1)
        await overlay.hosts.forget(BY_CONTROLLER, H1)
        assert keys.instance(H1) not in await stored(store)
