"""The lock by which the commands about a store keep controllers away from its file."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from controller.commands.store_transfer import unused
from overlayd.model.errors import InUse
from tests.support.lab.descriptors import copied


def test_one_command_at_a_time_has_a_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with unused(path), pytest.raises(InUse, match="in use by a controller"), unused(path):
        pass
    with unused(path):
        pass


def test_a_store_is_free_at_once_although_a_program_that_is_being_started_has_a_copy_of_its_lock(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.db"
    with ExitStack() as starting:
        with unused(path):
            starting.enter_context(copied(tmp_path / "store.db.lock"))
        with unused(path):
            pass
