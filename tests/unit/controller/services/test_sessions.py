"""Requests that last end with their token, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller.identity.roles import Role
from controller.journal.actor import BY_CONTROLLER
from controller.overlay import Overlay
from tests.support.controllers.overlays import store_at
from tests.support.controllers.virtual_clock import VirtualClock

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def a_controller(directory: Path) -> AsyncIterator[tuple[Overlay, VirtualClock]]:
    clock = VirtualClock()
    async with store_at(directory / "store.db", clock) as store:
        overlay = Overlay(store, clock, "c1")
        await overlay.load()
        running = asyncio.create_task(overlay.run(), name="c1")
        try:
            yield overlay, clock
        finally:
            running.cancel()
            await asyncio.wait([running])


async def test_a_session_ends_within_seconds_after_its_token_expired(tmp_path: Path) -> None:
    async with a_controller(tmp_path) as (overlay, clock):
        brief = (await overlay.tokens.create(BY_CONTROLLER, "brief", Role.VIEWER, 60)).result.record
        lasting = (await overlay.tokens.create(BY_CONTROLLER, "lasting", Role.VIEWER, None)).result.record
        with overlay.sessions.open(brief.id) as ended, overlay.sessions.open(lasting.id) as other:
            await clock.advance(58)
            assert not ended.is_set()
            await clock.advance(3)
            await asyncio.wait_for(ended.wait(), 30)
            assert not other.is_set()


async def test_every_session_of_a_revoked_token_ends(tmp_path: Path) -> None:
    async with a_controller(tmp_path) as (overlay, clock):
        token = (await overlay.tokens.create(BY_CONTROLLER, "ci", Role.VIEWER, None)).result.record
        with overlay.sessions.open(token.id) as one, overlay.sessions.open(token.id) as two:
            await overlay.tokens.revoke(BY_CONTROLLER, token.id)
            await clock.advance(2)
            await asyncio.wait_for(asyncio.gather(one.wait(), two.wait()), 30)
