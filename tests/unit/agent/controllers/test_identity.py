"""Who a host is: one id for its life, one instance for each run."""

import stat
import uuid
from pathlib import Path

import pytest

from overlayd.agent.controllers.credential import load_identity
from overlayd.model.errors import InvalidValue


def test_the_id_stays_and_the_instance_does_not(tmp_path: Path) -> None:
    first, second = load_identity(tmp_path / "state"), load_identity(tmp_path / "state")
    assert first.id == second.id
    assert first.instance != second.instance


def test_two_hosts_have_two_ids(tmp_path: Path) -> None:
    ids = {load_identity(tmp_path / name).id for name in ("a", "b")}
    assert len({uuid.UUID(host) for host in ids}) == 2


def test_the_id_is_for_root_only(tmp_path: Path) -> None:
    load_identity(tmp_path)
    assert stat.S_IMODE((tmp_path / "host-id").stat().st_mode) == 0o600


def test_an_id_of_ones_own_is_taken(tmp_path: Path) -> None:
    (tmp_path / "host-id").write_text("  rack7-node3\n")
    assert load_identity(tmp_path).id == "rack7-node3"


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff\xfe", b"a" * 64, b"\0" * 36])
def test_a_damaged_id_is_named_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "host-id"
    path.write_bytes(content)
    with pytest.raises(InvalidValue) as caught:
        load_identity(tmp_path)
    assert caught.value.field == str(path)
    assert path.read_bytes() == content
