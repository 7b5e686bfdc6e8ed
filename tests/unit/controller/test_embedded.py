"""What only the store in a file has: an owner, a format, a disk that fills up, a process that dies."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.store.embedded import EmbeddedStore, StoreRefused
from controller.store.port import Committed, Put, StoreUnavailable, Transaction
from tests.unit.controller.overlays import files_at_most, store_at

pytestmark = pytest.mark.anyio

KIB = 1024


async def test_a_second_controller_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with store_at(path, SystemClock()):
        with pytest.raises(StoreRefused, match="in use by another controller"):
            EmbeddedStore.open(path, SystemClock())
    async with store_at(path, SystemClock()) as store:
        assert await store.current_revision() == 0


async def test_a_file_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(StoreRefused, match="schema is version 0"):
        EmbeddedStore.open(path, SystemClock())
    other = sqlite3.connect(path)
    assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]
    other.close()


async def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with store_at(path, SystemClock()):
        pass
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(StoreRefused, match="schema is version 99"):
        EmbeddedStore.open(path, SystemClock())


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"not a database at all" * KIB)
    with pytest.raises(StoreRefused, match="not a database"):
        EmbeddedStore.open(path, SystemClock())


async def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="No such file or directory"):
        EmbeddedStore.open(tmp_path / "missing" / "store.db", SystemClock())


async def test_a_full_disk_makes_the_store_unavailable_and_nothing_is_half_made(tmp_path: Path) -> None:
    async with store_at(tmp_path / "store.db", SystemClock()) as store:
        await store.commit(Transaction((), (Put("/a/before", b""),)))
        with files_at_most(4096 * KIB):
            with pytest.raises(StoreUnavailable):
                await store.commit(Transaction((), (Put("/a/small", b""), Put("/a/large", bytes(8192 * KIB)))))
            assert [item.key for item in (await store.page("/a/")).items] == ["/a/before"]
        assert await store.commit(Transaction((), (Put("/a/after", b""),))) == Committed(
            (await store.page("/a/")).revision
        )
        assert [item.key for item in (await store.page("/a/")).items] == ["/a/after", "/a/before"]


WRITER = """
import asyncio, sys
from pathlib import Path
from controller.clock import SystemClock
from controller.store.embedded import EmbeddedStore
from controller.store.port import Put, Transaction

async def main():
    store = EmbeddedStore.open(Path(sys.argv[1]), SystemClock())
    running = asyncio.create_task(store.run())
    number = 0
    while True:
        pair = (Put(f"/a/{number}", b""), Put(f"/b/{number}", b""))
        print((await store.commit(Transaction((), pair))).revision, flush=True)
        number += 1

asyncio.run(main())
"""


def acknowledged_before_kill(path: Path) -> int:
    """Return the last revision that a writer said it had written before it was killed."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    with writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(50)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout
        return max(int(line) for line in lines if line.endswith(b"\n"))


async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    acknowledged = acknowledged_before_kill(tmp_path / "store.db")
    async with store_at(tmp_path / "store.db", SystemClock()) as store:
        revision = await store.current_revision()
        assert revision >= acknowledged
        pairs = [len((await store.page(prefix, limit=1_000_000)).items) for prefix in ("/a/", "/b/")]
        assert pairs == [revision, revision]
