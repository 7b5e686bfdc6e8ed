"""Copies of records, which an agent does without when it has to."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from overlayd.agent.records.attachment_records import RECORD_VERSION, Attachment, AttachmentRecords
from overlayd.agent.records.record_copies import loaded
from tests.support.controllers import clusters


def write_as_a_newer_agent(directory: Path) -> None:
    (directory / "0.json").write_text(json.dumps({"v": RECORD_VERSION + 1}))


def replace_by_a_file(directory: Path) -> None:
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()
    directory.write_text("")


@pytest.mark.parametrize("spoil", [write_as_a_newer_agent, replace_by_a_file])
def test_copies_that_cannot_be_read_keep_no_agent_from_starting(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    directory = tmp_path / "attachments"
    AttachmentRecords(directory).put(Attachment(clusters.endpoint(1, "web", "10.32.0.2"), (4, 5)))
    assert len(loaded(directory).attachments) == 1
    spoil(directory)
    with capture_logs() as logs:
        assert not loaded(directory).attachments
    assert [line["log_level"] for line in logs] == ["warning"]


def test_a_copy_that_a_crash_of_the_machine_left_empty_is_removed(tmp_path: Path) -> None:
    directory = tmp_path / "attachments"
    written = AttachmentRecords(directory)
    for name, address in (("web", "10.32.0.2"), ("db", "10.32.0.3")):
        written.put(Attachment(clusters.endpoint(1, name, address), (4, 5)))
    emptied, kept = sorted(directory.iterdir())
    emptied.write_bytes(b"")
    with capture_logs() as logs:
        assert len(loaded(directory).attachments) == 1
    assert len(logs) == 1
    assert list(directory.iterdir()) == [kept]
