"""The agent's lock: one process has it, also when its file is removed, and others cannot take it."""

import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from overlayd.agent.runtime.instance_lock import Lock, held
from overlayd.model.errors import InUse
from tests.support.lab.descriptors import copied


def test_one_has_it_at_a_time(tmp_path: Path) -> None:
    state, run = tmp_path / "state", tmp_path / "run"
    with held(state, run), pytest.raises(InUse, match=str(state)), held(state, run):
        pass
    with held(state, run):
        pass


@pytest.mark.parametrize("give_up", [Lock.close, Lock.renew], ids=["closed", "renewed"])
def test_it_is_free_at_once_although_a_program_that_is_being_started_has_a_copy_of_the_descriptor(
    tmp_path: Path, give_up: Callable[[Lock], None]
) -> None:
    lock = Lock(tmp_path)
    with copied(tmp_path / "lock"):
        (tmp_path / "lock").rename(tmp_path / "before")  # as a new one is locked by `renew`
        give_up(lock)
        (tmp_path / "before").rename(tmp_path / "lock")
        Lock(tmp_path).close()


def test_either_directory_keeps_a_second_one_out(tmp_path: Path) -> None:
    state, run = tmp_path / "state", tmp_path / "run"
    with held(state, run):
        shutil.rmtree(run)
        with pytest.raises(InUse), held(state, run):
            pass
        with pytest.raises(InUse), held(tmp_path / "other state", state):
            pass


def test_a_removed_one_is_taken_again(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "run")
    assert not lock.is_lost()
    shutil.rmtree(tmp_path / "run")
    assert lock.is_lost()
    lock.renew()
    assert not lock.is_lost()
    with pytest.raises(InUse):
        Lock(tmp_path / "run")
    lock.close()


def test_one_that_another_process_took_meanwhile_is_its_own(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    (tmp_path / "lock").unlink()
    other = Lock(tmp_path)
    with pytest.raises(InUse, match="another overlayd runs"):
        lock.renew()
    other.close()
    lock.close()


def test_other_users_cannot_open_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "lock").touch(mode=0o644)
    Lock(tmp_path).close()
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Lock(tmp_path)
    assert not (tmp_path / "elsewhere").exists()
