"""What only the store in a file has: an owner, a format, a disk that fills up, a process that dies."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.store.embedded import EmbeddedStore, StoreRefused
from controller.store.port import Committed, PutKey, Replaced, StoreUnavailable, Transaction
from tests.support.controllers.overlays import files_at_most, store_at
from tests.support.lab.descriptors import copied

pytestmark = pytest.mark.anyio

KIB = 1024


async def test_a_second_controller_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with store_at(path, SystemClock()):
        with pytest.raises(StoreRefused, match="in use by another controller"):
            EmbeddedStore.open(path, SystemClock())
    async with store_at(path, SystemClock()) as store:
        assert await store.current_revision() == 0


async def test_a_closed_store_is_free_although_a_program_that_is_being_started_has_a_copy_of_its_lock(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.db"
    store = EmbeddedStore.open(path, SystemClock())
    with copied(tmp_path / "store.db.lock"):
        await store.close()
        await EmbeddedStore.open(path, SystemClock()).close()


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
        await store.commit(Transaction((), (PutKey("/a/before", b""),)))
        with files_at_most(4096 * KIB):
            with pytest.raises(StoreUnavailable):
                await store.commit(Transaction((), (PutKey("/a/small", b""), PutKey("/a/large", bytes(8192 * KIB)))))
            assert [item.key for item in (await store.page("/a/")).items] == ["/a/before"]
        assert await store.commit(Transaction((), (PutKey("/a/after", b""),))) == Committed(
            (await store.page("/a/")).revision
        )
        assert [item.key for item in (await store.page("/a/")).items] == ["/a/after", "/a/before"]


WRITER = """
import asyncio, sys
from pathlib import Path
from controller.clock import SystemClock
from controller.store.embedded import EmbeddedStore
from controller.store.port import PutKey, Transaction

async def main():
    store = EmbeddedStore.open(Path(sys.argv[1]), SystemClock())
    running = asyncio.create_task(store.run())
    number = 0
    while True:
        pair = (PutKey(f"/a/{number}", b""), PutKey(f"/b/{number}", b""))
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


async def filled(path: Path) -> None:
    """Make a store of some hundred pages, all of them in the file itself."""
    async with store_at(path, SystemClock()) as store:
        for number in range(60):
            puts = tuple(PutKey(f"/a/{number:03}-{part:03}", bytes(200)) for part in range(50))
            await store.commit(Transaction((), puts))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def zeroed(content: bytes) -> bytes:
    """Return a database in whose middle a page holds nothing any more."""
    middle = len(content) // 2 // 4096 * 4096
    return content[:middle] + bytes(4096) + content[middle + 4096 :]


def cut(content: bytes) -> bytes:
    """Return the first half of a database."""
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [zeroed, cut], ids=["a page of zeros", "cut in half"])
async def test_a_damaged_file_is_refused_at_the_start(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "store.db"
    await filled(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StoreRefused, match=r"store\.db cannot be used as a store: .*(damaged|malformed)"):
        EmbeddedStore.open(path, SystemClock())


async def test_a_file_without_its_counters_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await filled(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DELETE FROM counters")
    connection.close()
    with pytest.raises(StoreRefused, match="damaged"):
        EmbeddedStore.open(path, SystemClock())


async def write_and_read(store: EmbeddedStore) -> None:
    """Write and read until that fails: what a connection has in its cache it need not read until another one wrote."""
    async with asyncio.timeout(30):
        while True:
            await store.commit(Transaction((), (PutKey("/b", b""),)))
            await store.page("/a/")


async def test_a_file_that_is_damaged_under_a_running_store_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await filled(path)
    store = EmbeddedStore.open(path, SystemClock())
    running = asyncio.create_task(store.run())
    with path.open("r+b") as file:
        file.write(zeroed(path.read_bytes()))
        file.seek(0)
        file.write(bytes(4096))
    with pytest.raises(Replaced):
        await write_and_read(store)
    with pytest.raises(ExceptionGroup) as ended:
        await running
    assert ended.group_contains(Replaced)
    await store.close()


@pytest.mark.parametrize("exchange", ["another file", "no file"])
async def test_a_file_that_is_exchanged_under_a_running_store_ends_it(tmp_path: Path, exchange: str) -> None:
    path, other = tmp_path / "store.db", tmp_path / "other.db"
    await filled(other)
    store = EmbeddedStore.open(path, SystemClock())
    running = asyncio.create_task(store.run())
    if exchange == "another file":
        other.rename(path)
    else:
        path.unlink()
    with pytest.raises(ExceptionGroup) as ended:
        await running
    assert ended.group_contains(Replaced)
    with pytest.raises(Replaced):
        await store.commit(Transaction((), (PutKey("/a/late", b""),)))
    await store.close()


async def test_a_store_that_falls_behind_its_own_revision_writes_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with store_at(path, SystemClock()) as store:
        for number in range(5):
            await store.commit(Transaction((), (PutKey(f"/a/{number}", b""),)))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("UPDATE counters SET value = 2 WHERE name = 'revision'")
        with pytest.raises(Replaced, match="at revision 2, and was at 5"):
            await store.commit(Transaction((), (PutKey("/a/late", b""),)))
        assert other.execute("SELECT count(*) FROM history").fetchall() == [(5,)]
        other.close()
