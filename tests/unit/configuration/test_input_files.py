"""Files that are input: what the system does not say is no absence, and nothing is waited for."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from overlayd.configuration import files, systemd_credentials
from overlayd.model.errors import InvalidValue

LOOKS: list[Callable[[Path], object]] = [files.exists, files.is_file, files.is_directory]


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    """A path of which the system says neither that something is there nor that nothing is."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    return tmp_path / "loop"


@pytest.mark.parametrize("look", LOOKS)
def test_an_error_is_no_absence(look: Callable[[Path], object], loop: Path) -> None:
    with pytest.raises(OSError, match="symbolic links"):
        look(loop)


@pytest.mark.parametrize("look", LOOKS)
def test_what_is_not_there_is_absent(look: Callable[[Path], object], tmp_path: Path) -> None:
    assert look(tmp_path / "nothing") is False
    (tmp_path / "file").touch()
    assert look(tmp_path / "file/below") is False


def test_what_is_there_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert (files.exists(tmp_path / "file"), files.is_file(tmp_path / "file")) == (True, True)
    assert (files.is_directory(tmp_path / "file"), files.is_directory(tmp_path)) == (False, True)
    assert files.is_file(tmp_path) is False
    assert files.names(tmp_path) == ["file"]
    assert files.names(tmp_path / "nothing") == []


def test_a_directory_that_cannot_be_read_is_not_empty(loop: Path) -> None:
    with pytest.raises(OSError, match="symbolic links"):
        files.names(loop)


def test_a_credential_that_cannot_be_looked_at_is_an_error(loop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="symbolic links"):
        systemd_credentials.kept(loop.name, [loop.parent])
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(loop.parent))
    with pytest.raises(OSError, match="symbolic links"):
        systemd_credentials.credential(loop.name)


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    assert files.read_regular(tmp_path / "file", 4) == b"1234"
    with pytest.raises(InvalidValue, match="larger than 3 bytes"):
        files.read_regular(tmp_path / "file", 3)
    with pytest.raises(FileNotFoundError):
        files.read_regular(tmp_path / "nothing", 3)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises(InvalidValue, match="no regular file") as refused:
            files.read_regular(path, 4)
        assert refused.value.field == str(path)
