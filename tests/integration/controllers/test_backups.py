"""`overlay-controller backup`, `restore`, `migrate` and `new-cluster`, on files and on an etcd."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from controller.main import app
from tests.support.controllers.etcd import EtcdCluster
from tests.support.controllers.processes import LocalController
from tests.support.lab.processes import eventually

BLUE = {"name": "blue", "pools": [{"range": "10.32.0.0/16"}]}


def typed(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


def done(*arguments: str) -> str:
    result = typed(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    result = typed(*arguments)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@contextmanager
def controller_at(directory: Path, store: str) -> Iterator[LocalController]:
    controller = LocalController("controller", directory, "--store", store, "--recovery-time", "1")
    controller.start()
    try:
        yield controller
    finally:
        controller.stop()


def start_refused(directory: Path, *options: str) -> str:
    """Return what a controller says that does not start."""
    command = [sys.executable, "-c", "from controller.main import main; main()", "run", "--listen", "127.0.0.1:0"]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "OVERLAY_CONTROLLER_STATE_DIR": str(directory)}
    ended = subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


def networks(controller: LocalController) -> set[str]:
    return {each["name"] for each in controller.request("GET", "/v1/networks").json()["items"]}


def make(controller: LocalController, name: str) -> httpx.Response:
    return controller.request("POST", "/v1/networks", {**BLUE, "name": name})


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdCluster]:
    with EtcdCluster(1) as made:
        yield made


@pytest.fixture
def emptied(etcd: EtcdCluster) -> EtcdCluster:
    etcd.post("/v3/kv/deleterange", {"key": "AA==", "range_end": "AA=="})
    return etcd


@pytest.fixture(params=["file", "etcd"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return str(tmp_path / "store.db")
    url: str = request.getfixturevalue("emptied").url
    return url


def test_what_a_running_controller_has_written_is_in_its_backup_and_comes_back(tmp_path: Path, place: str) -> None:
    saved = str(tmp_path / "saved")
    with controller_at(tmp_path, place) as running:
        for number in range(30):
            assert make(running, f"n{number}").status_code == 201
        done("backup", saved, "--store", place)
        make(running, "late")
        before = running.request("GET", "/v1/networks/n7").json()
    assert Path(saved).stat().st_mode & 0o777 == 0o600
    assert "restore --replace" in refused("restore", saved, "--store", place)
    done("restore", saved, "--store", place, "--replace")
    with controller_at(tmp_path, place) as running:
        assert networks(running) == {f"n{number}" for number in range(30)}
        after = running.request("GET", "/v1/networks/n7").json()
        assert {**after, "revision": 0} == {**before, "revision": 0}
        history = running.request("GET", "/v1/history?kind=network&limit=100").json()["items"]
        assert len(history) == 30


def test_a_copy_of_the_file_alone_lacks_what_was_written_last(tmp_path: Path) -> None:
    store, copy = tmp_path / "store.db", tmp_path / "copy.db"
    with controller_at(tmp_path, str(store)) as running:
        make(running, "blue")
        shutil.copy(store, copy)
        done("backup", str(tmp_path / "saved"), "--store", str(store))
    assert b"networks/blue" in (tmp_path / "saved").read_bytes()
    reading = sqlite3.connect(copy)
    tables = reading.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    rows = reading.execute("SELECT count(*) FROM history").fetchone()[0] if tables else 0
    reading.close()
    assert rows == 0, "SQLite keeps it in store.db-wal until later"


def test_a_cluster_moves_from_a_file_to_an_etcd_and_back(tmp_path: Path, emptied: EtcdCluster) -> None:
    first, second = tmp_path / "store.db", tmp_path / "again.db"
    with controller_at(tmp_path, str(first)) as running:
        make(running, "blue")
        assert "stop it first" in refused("migrate", emptied.url, "--store", str(first))
    done("migrate", emptied.url, "--store", str(first))
    assert not first.exists()
    with controller_at(tmp_path, emptied.url) as running:
        assert networks(running) == {"blue"}
    done("migrate", str(second), "--store", emptied.url)
    with controller_at(tmp_path, str(second)) as running:
        assert networks(running) == {"blue"}
        assert make(running, "red").json()["vni"] == 2


def truncated(content: bytes) -> bytes:
    return content[:-20]


def changed(content: bytes) -> bytes:
    return content.replace(b"blue", b"glue", 1)


def without_a_line(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join((*lines[:2], *lines[3:]))


@pytest.mark.parametrize("damage", [truncated, changed, without_a_line])
def test_a_damaged_backup_is_refused_and_changes_nothing(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    store, saved = tmp_path / "store.db", tmp_path / "saved"
    with controller_at(tmp_path, str(store)) as running:
        make(running, "blue")
    done("backup", str(saved), "--store", str(store))
    saved.write_bytes(damage(saved.read_bytes()))
    assert "is no backup, or is damaged" in refused("restore", str(saved), "--store", str(store), "--replace")
    with controller_at(tmp_path, str(store)) as running:
        assert networks(running) == {"blue"}


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refused("backup", str(tmp_path / "saved"), "--store", str(tmp_path / "none.db"))
    assert "No such file" in refused("restore", str(tmp_path / "none"), "--store", str(tmp_path / "store.db"))
    (tmp_path / "other.db").write_bytes(b"not a database" * 1000)
    assert "cannot be read as a store" in refused("backup", str(tmp_path / "s"), "--store", str(tmp_path / "other.db"))


def test_a_store_that_is_empty_where_there_was_one_becomes_no_new_cluster(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    with controller_at(tmp_path, str(store)) as running:
        make(running, "blue")
    state = tmp_path / "controller.state"
    for path in tmp_path.glob("store.db*"):
        path.unlink()
    said = start_refused(state, "--store", str(store), "--admin-token-file", str(tmp_path / "admin-token"))
    assert "store.db.known.json tells of a cluster" in said
    assert "overlay-controller restore" in said
    assert not (tmp_path / "admin-token").exists()
    store.unlink()  # which the refused start has made, with nothing in it
    options = ("--store", str(store), "--state-dir", str(state), "--admin-token-file", str(tmp_path / "admin-token"))
    assert "makes a new cluster" in done("new-cluster", *options)
    with controller_at(tmp_path, str(store)) as running:
        assert networks(running) == set()


def test_an_etcd_that_is_empty_where_there_was_a_cluster_becomes_no_new_one(
    tmp_path: Path, emptied: EtcdCluster
) -> None:
    with controller_at(tmp_path, emptied.url) as running:
        make(running, "blue")
    emptied.post("/v3/kv/deleterange", {"key": "AA==", "range_end": "AA=="})
    token = tmp_path / "admin-token"
    said = start_refused(tmp_path / "controller.state", "--store", emptied.url, "--admin-token-file", str(token))
    assert "is empty, and" in said
    assert not token.exists()


def test_a_file_that_is_exchanged_under_a_running_controller_is_read_from_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with controller_at(tmp_path / "other", str(tmp_path / "other" / "store.db")) as running:
        make(running, "other")
    store = tmp_path / "store.db"
    with controller_at(tmp_path, str(store)) as running:
        make(running, "blue")
        (tmp_path / "other" / "store.db").rename(store)
        eventually(lambda: running.is_ready() and networks(running) == {"other"}, "it is read again")
        assert running.process
        assert "is another file than the one that was opened" in running.process.output
        assert make(running, "blue").status_code == 201
    with controller_at(tmp_path, str(store)) as running:
        assert networks(running) == {"blue", "other"}


def test_a_controller_on_a_damaged_file_says_so_in_a_line(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    with controller_at(tmp_path, str(store)) as running:
        for number in range(100):
            make(running, f"n{number}")
    content = bytearray(store.read_bytes())
    content[4096 * 3 : 4096 * 6] = bytes(4096 * 3)
    store.write_bytes(content)
    said = start_refused(tmp_path / "controller.state", "--store", str(store), "--insecure")
    assert "cannot be used as a store" in said
    assert "Restore a backup" in said or "malformed" in said


def test_another_authority_is_made_where_the_backup_is_restored_without_it(tmp_path: Path) -> None:
    store, saved = tmp_path / "store.db", tmp_path / "saved"
    keys = {"/overlayd/identity/v1/authority"}
    with controller_at(tmp_path, str(store)) as running:
        make(running, "blue")
    connection = sqlite3.connect(store, isolation_level=None)
    connection.execute(
        "INSERT INTO history SELECT ?, value, value, ?, NULL FROM counters WHERE name = 'revision'",
        (*keys, json.dumps({"v": 2}).encode()),
    )
    connection.close()
    done("backup", str(saved), "--store", str(store))
    done("restore", str(saved), "--store", str(store), "--replace", "--new-authority")
    connection = sqlite3.connect(store)
    found = {key for (key,) in connection.execute("SELECT key FROM history")}
    connection.close()
    assert not keys & found
    assert "/overlayd/v1/networks/blue" in found
