"""What a controller does with what it has loaded."""

import gc
import weakref
from pathlib import Path

import pytest

from controller import settings
from controller.clock import SystemClock
from controller.lifecycle.known_store import KnownStore
from controller.overlay import Overlay
from controller.serving import upkeep
from tests.support.controllers.overlays import BLUE, controllers, make_network, store_at

pytestmark = pytest.mark.anyio


def is_looked_through(wanted: object) -> bool:
    """Return whether the collector of reference cycles visits an object."""
    return any(each is wanted for each in gc.get_objects())


async def test_the_collector_does_not_visit_what_was_loaded(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [before]):
        await make_network(before)
    chosen = settings.load(tmp_path / "store.db", ["127.0.0.1:0"], None, None, 60)
    async with store_at(tmp_path / "store.db", SystemClock()) as store:
        overlay = Overlay(store, SystemClock(), "c2")
        try:
            await upkeep.load(overlay, store, KnownStore(chosen.known_store), chosen)
            assert not is_looked_through(overlay.mirror.intent.networks[BLUE])
            assert is_looked_through(made_later := [overlay]), made_later
            assert gc.isenabled()
        finally:
            gc.unfreeze()


async def test_what_was_loaded_of_a_store_that_is_another_one_now_is_freed(tmp_path: Path) -> None:
    chosen = settings.load(tmp_path / "store.db", ["127.0.0.1:0"], None, None, 60)
    async with store_at(tmp_path / "store.db", SystemClock()) as store:

        async def load() -> Overlay:
            overlay = Overlay(store, SystemClock(), "c1")
            await upkeep.load(overlay, store, KnownStore(chosen.known_store), chosen)
            return overlay

        try:
            before = weakref.ref((await load()).mirror)
            now = await load()
            gc.collect()
            assert before() is None, now
        finally:
            gc.unfreeze()
