"""The first start: one authority for all controllers, and an admin token that somebody has."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from controller.identity.roles import Role
from controller.journal.actor import BY_CONTROLLER
from controller.lifecycle.bootstrap import ensure_admin, shared_authority
from controller.state import keys
from controller.store.port import PutKey, Transaction
from tests.support.controllers.overlays import controllers

pytestmark = pytest.mark.anyio


async def test_controllers_that_start_at_once_share_one_authority(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (store, _):
        made = await asyncio.gather(*(shared_authority(store, time.time()) for _ in range(5)))
        assert len({authority.fingerprint for authority in made}) == 1
        assert await shared_authority(store, time.time()) == made[0]


@pytest.mark.parametrize(
    "value", [{}, {"certificate": "x", "key": "y"}, {"certificate": 1, "key": 2}, {"certificate": "x"}]
)
async def test_a_damaged_authority_is_refused(tmp_path: Path, value: dict[str, str | int]) -> None:
    async with controllers(tmp_path, 1) as (store, _):
        await store.commit(Transaction((), (PutKey(keys.AUTHORITY, keys.encode({**value})),)))
        with pytest.raises(ValueError, match="certificate authority"):
            await shared_authority(store, time.time())


async def test_an_admin_token_is_made_when_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "admin-token"
    async with controllers(tmp_path, 1) as (_, [overlay]):
        assert await ensure_admin(overlay, path)
        first = overlay.tokens.authenticate(path.read_text().strip(), time.time())
        assert (first.role, first.name, first.expires) == (Role.ADMIN, "admin", None)
        assert not await ensure_admin(overlay, path)
        await overlay.tokens.revoke(BY_CONTROLLER, first.id)
        assert await ensure_admin(overlay, path)
        second = overlay.tokens.authenticate(path.read_text().strip(), time.time())
        assert second.id != first.id


async def test_no_token_is_made_that_nobody_would_have(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        with pytest.raises(OSError, match="admin-token"):
            await ensure_admin(overlay, tmp_path / "missing" / "admin-token")
        assert overlay.tokens.all() == []


async def test_the_token_has_its_name_on_the_disk_before_it_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        path, synced, fsync = tmp_path / "admin-token", list[tuple[Path, bool, int]](), os.fsync

        def noted(descriptor: int) -> None:
            place = Path(f"/proc/self/fd/{descriptor}").readlink()
            synced.append((place, path.exists(), len(overlay.tokens.all())))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", noted)
        await ensure_admin(overlay, path)
        assert synced == [(path, True, 0), (tmp_path, True, 0)]


async def test_a_link_in_the_place_of_the_token_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "admin-token").symlink_to(tmp_path / "elsewhere")
    async with controllers(tmp_path, 1) as (_, [overlay]):
        with pytest.raises(OSError, match="admin-token"):
            await ensure_admin(overlay, tmp_path / "admin-token")
        assert not (tmp_path / "elsewhere").exists()
