"""What the agent remembers over a restart, and that damage is named instead of guessed around."""

import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords, Stray
from overlayd.model.endpoint import EndpointKey
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import InterfaceName, NetworkName
from overlayd.wire.fields import Json
from tests.support.controllers import clusters

WEB = Attachment(clusters.endpoint(1, "web", "10.32.0.2"), (4, 4026532281))
DATABASE = Attachment(clusters.endpoint(1, "db", "10.32.0.3", interface="eth1"), (4, 4026532999))
GREEN = Attachment(clusters.endpoint(1, "web", "10.64.0.2", "green", "eth1"), (4, 4026532281))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "attachments"


def stored(directory: Path, *attachments: Attachment) -> AttachmentRecords:
    records = AttachmentRecords(directory)
    for attachment in attachments:
        records.put(attachment)
    return records


def loaded(directory: Path) -> AttachmentRecords:
    records = AttachmentRecords(directory)
    records.load()
    return records


def by_key(*attachments: Attachment) -> dict[EndpointKey, Attachment]:
    return {attachment.endpoint.key: attachment for attachment in attachments}


def test_a_first_start_remembers_nothing(directory: Path) -> None:
    assert loaded(directory).attachments == {}


def test_attachments_survive_a_restart(directory: Path) -> None:
    before = stored(directory, WEB, DATABASE, GREEN)
    after = loaded(directory)
    assert before.attachments == after.attachments == by_key(WEB, DATABASE, GREEN)
    assert set(after.endpoints) == {WEB.endpoint, DATABASE.endpoint, GREEN.endpoint}


def test_addresses_are_taken_in_their_own_network_only(directory: Path) -> None:
    records = stored(directory, WEB, DATABASE, GREEN)
    assert records.addresses(NetworkName("blue")) == {IPv4Address("10.32.0.2"), IPv4Address("10.32.0.3")}
    assert records.addresses(NetworkName("green")) == {IPv4Address("10.64.0.2")}


def test_a_removed_attachment_stays_removed(directory: Path) -> None:
    records = stored(directory, WEB, DATABASE)
    for _ in range(2):
        records.remove(WEB.endpoint.key)
        assert records.attachments == loaded(directory).attachments == by_key(DATABASE)


def test_an_attachment_is_replaced_under_its_key(directory: Path) -> None:
    again = Attachment(clusters.endpoint(1, "web", "10.32.0.9"), (4, 1))
    records = stored(directory, WEB, again)
    assert records.attachments == loaded(directory).attachments == by_key(again)


def test_what_an_older_agent_attached_has_no_filter(directory: Path) -> None:
    stored(directory, WEB)
    (path,) = directory.iterdir()
    record = json.loads(path.read_bytes())
    del record["is_guarded"]
    path.write_text(json.dumps(record))
    assert loaded(directory).attachments == by_key(replace(WEB, is_guarded=False))


def test_records_are_for_root_only(directory: Path) -> None:
    stored(directory, WEB)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())]
    assert modes == [0o700, 0o600]


def test_what_cannot_be_written_is_not_kept(directory: Path) -> None:
    records = stored(directory, WEB)
    (path,) = directory.iterdir()
    records.remove(WEB.endpoint.key)
    path.mkdir()  # in the way of the file
    with pytest.raises(OSError, match=path.name):
        records.put(WEB)
    assert records.attachments == {}
    assert list(directory.iterdir()) == [path]


def test_what_was_written_halfway_is_no_record(directory: Path) -> None:
    stored(directory, WEB)
    (path,) = directory.iterdir()
    path.with_name(f".{path.name}.new").write_bytes(path.read_bytes()[:20])
    assert loaded(directory).attachments == by_key(WEB)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b"{}"])
def test_a_damaged_record_is_set_aside_and_named(directory: Path, content: bytes) -> None:
    stored(directory, WEB, DATABASE)
    path = min(directory.iterdir())
    path.write_bytes(content)
    with capture_logs() as said:
        records = loaded(directory)
    assert len(records.attachments) == 1
    assert [str(each["problem"]).startswith(str(path)) for each in said] == [True]
    records.set_aside_damaged()
    assert records.set_aside == (path.with_name(f"{path.name}.damaged"),)
    assert loaded(directory).attachments == records.attachments


def test_a_damaged_record_that_is_made_again_is_replaced(directory: Path) -> None:
    stored(directory, WEB)
    (path,) = directory.iterdir()
    path.write_bytes(b"")
    records = loaded(directory)
    records.put(WEB)
    records.set_aside_damaged()
    assert records.set_aside == ()
    assert loaded(directory).attachments == by_key(WEB)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["a FIFO", "a directory"])
def test_what_is_no_file_is_no_record_and_not_waited_for(directory: Path, make: Callable[[Path], None]) -> None:
    stored(directory, WEB)
    make(directory / "0.json")
    records = loaded(directory)
    assert records.attachments == by_key(WEB)
    records.set_aside_damaged()
    assert records.set_aside == (directory / "0.json.damaged",)


def test_a_directory_that_cannot_be_read_is_an_error_and_not_empty(directory: Path) -> None:
    directory.symlink_to(directory)
    with pytest.raises(OSError, match="symbolic links"):
        loaded(directory)


def test_what_was_removed_is_written_again(directory: Path) -> None:
    records = AttachmentRecords(directory)
    for attachment in (WEB, DATABASE, GREEN):
        records.put(attachment)
    assert records.restore() == 0
    min(directory.iterdir()).unlink()
    assert records.restore() == 1
    shutil.rmtree(directory)
    assert records.restore() == 3
    assert loaded(directory).attachments == by_key(WEB, DATABASE, GREEN)


def test_addresses_of_an_interface_without_a_record_are_taken_until_it_is_gone(directory: Path) -> None:
    records = AttachmentRecords(directory)
    records.put(WEB)
    stray = Stray(NetworkName("blue"), InterfaceName("ve1"), frozenset({IPv4Address("10.32.0.9")}))
    records.withhold(stray)
    assert records.addresses(NetworkName("blue")) == {IPv4Address("10.32.0.2"), IPv4Address("10.32.0.9")}
    assert records.addresses(NetworkName("green")) == set()
    records.release([stray])
    assert records.addresses(NetworkName("blue")) == {IPv4Address("10.32.0.2")}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"v": None}, "v"),
        ({"v": "1"}, "v"),
        ({"address": "10.32.0"}, "address"),
        ({"mac": None}, "mac"),
        ({"interface": ".."}, "interface"),
        ({"sandbox_id": None}, "sandbox_id"),
        ({"sandbox_id": {"device": 4}}, "sandbox_id.inode"),
    ],
)
def test_a_damaged_field_is_named_with_its_file(directory: Path, change: dict[str, Json], field: str) -> None:
    stored(directory, WEB)
    (path,) = directory.iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with capture_logs() as said:
        assert loaded(directory).attachments == {}
    assert [str(each["problem"]).startswith(f"{path}.{field}: ") for each in said] == [True]


def test_a_record_of_a_newer_version_is_refused(directory: Path) -> None:
    stored(directory, WEB)
    (path,) = directory.iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"v": 3}))
    with pytest.raises(InvalidValue, match="was written by a newer overlayd") as caught:
        loaded(directory)
    assert caught.value.field == f"{path}.v"


def test_a_field_of_a_newer_agent_is_ignored(directory: Path) -> None:
    stored(directory, WEB)
    (path,) = directory.iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"colour": "blue"}))
    assert loaded(directory).attachments == by_key(WEB)


def test_an_address_is_taken_as_long_as_one_endpoint_has_it(tmp_path: Path) -> None:
    records = AttachmentRecords(tmp_path)
    first, second = (Attachment(clusters.endpoint(1, name, "10.32.0.2"), (4, 1)) for name in ("old", "new"))
    for attachment in (first, second, first):
        records.put(attachment)
    blue, address = NetworkName("blue"), IPv4Address("10.32.0.2")
    records.remove(first.endpoint.key)
    assert address in records.addresses(blue)
    records.remove(second.endpoint.key)
    records.remove(second.endpoint.key)
    assert records.addresses(blue) == set()


def test_a_directory_that_was_removed_is_made_again_for_root_only(directory: Path) -> None:
    records = stored(directory, WEB)
    shutil.rmtree(directory)
    records.put(DATABASE)
    assert loaded(directory).attachments == by_key(DATABASE)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
