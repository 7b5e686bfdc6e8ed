"""Files that are whole or not there."""

import os
import stat
from pathlib import Path

import pytest

from overlayd.configuration.files import replace_content, write_atomically


def test_a_file_is_made_with_its_directories_for_root_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"
    assert [stat.S_IMODE(made.stat().st_mode) for made in (path.parent, path)] == [0o700, 0o600]


def test_a_file_for_everybody_is_made_with_directories_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    before = os.umask(0o077)
    try:
        write_atomically(path, b"content", 0o644)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(made.stat().st_mode) for made in (path.parent, path)] == [0o755, 0o644]


def test_a_reader_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with path.open("rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_leftover_of_a_crash_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".file.new").write_bytes(b"a longer leftover than the content")
    write_atomically(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        write_atomically(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_names_are_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced, fsync = tmp_path / "new" / "nested" / "file", list[tuple[Path, bool]](), os.fsync

    def noted(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_atomically(path, b"content")
    assert {(tmp_path, False), (path.parent.parent, False)} < set(synced), "the directories that were made"
    assert synced[-1] == (path.parent, True), "the file has its name before"


def test_what_need_not_be_durable_is_whole_for_root_only_and_costs_no_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = list[int]()
    monkeypatch.setattr(os, "fsync", synced.append)
    path = tmp_path / "file"
    for content in (b"before", b"x" * (1 << 20)):
        replace_content(path, content)
        assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert synced == []


def test_a_replacement_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        replace_content(tmp_path / "file", b"content")
    with pytest.raises(FileNotFoundError):
        replace_content(tmp_path / "missing" / "file", b"content")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
