"""What the commands about a store do: read one into a backup, make one of a backup, and give a file another name."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from controller.clock import SystemClock
from controller.lifecycle import backup_file as backups
from controller.lifecycle.backup_file import Backup
from controller.state import keys
from controller.state.lineages import LineageRecord
from controller.store.opening import StoreChoice, open_store
from controller.store.port import Store
from controller.store.reading import everything, reading
from overlayd.configuration.files import sync_directory
from overlayd.model.errors import AlreadyExists, InUse

_PARTS = ("", "-wal", "-shm")
"""SQLite's files: the database, what was written last, and what readers share."""


class StoreTarget:
    """Where a store is to be made."""

    def __init__(self, choice: StoreChoice, tell: Callable[[str], None], *, replace: bool) -> None:
        """`tell` gets a line for people when a store gets another name."""
        self._choice = choice
        self._tell = tell
        self._replace = replace

    @contextmanager
    def prepared(self) -> Iterator[StoreChoice]:
        """Yield where to write the store: a file is moved to its place when it is complete, under a lock."""
        if not isinstance(self._choice, Path):
            yield self._choice
            return
        path = self._choice
        if path.exists() and not self._replace:
            raise AlreadyExists(
                f"{path} is there already: name another store, or have it kept under another name by restore --replace"
            )
        made = path.with_name(f"{path.name}.restoring")
        with unused(path):
            for part in _PARTS:
                made.with_name(made.name + part).unlink(missing_ok=True)
            try:
                yield made
                _give_to_owner(made)
                if path.exists():
                    self._tell(f"{path} is {set_aside(path, 'before')} now")
                made.rename(path)
            finally:
                made.with_name(f"{made.name}.lock").unlink(missing_ok=True)
                made.unlink(missing_ok=True)
            sync_directory(path.parent)


@contextmanager
def unused(choice: StoreChoice) -> Iterator[None]:
    """Lock a store in a file against controllers; raise `InUse` when one has it open. An etcd has no such lock."""
    if not isinstance(choice, Path):
        yield
        return
    with choice.with_name(f"{choice.name}.lock").open("ab") as lock:
        _give_to_owner(Path(lock.name))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"{choice} is in use by a controller: stop it first") from None
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing is not enough: see `close_unlocked`


def _give_to_owner(path: Path) -> None:
    """Give a file the owner of its directory: root acts for the service's user."""
    owner = path.parent.stat()
    os.chown(path, owner.st_uid, owner.st_gid)


def set_aside(path: Path, suffix: str) -> Path:
    """Rename a file, with SQLite's files beside it; return the new name."""
    number = 1
    while (kept := path.with_name(f"{path.name}.{suffix}-{number}")).exists():
        number += 1
    for part in _PARTS:
        found = path.with_name(path.name + part)
        if found.exists():
            found.rename(kept.with_name(kept.name + part))
    return kept


async def read(choice: StoreChoice) -> Backup:
    """Return the backup of a store; raise `InvalidValue`, `StoreRefused` or `StoreUnavailable`."""
    async with reading(choice, SystemClock()) as store:
        return backups.of(*await everything(store, keys.ROOT))


async def fill(choice: StoreChoice, found: Backup, *, replace: bool) -> LineageRecord:
    """Write a backup into a store, and return its lineage; with `replace` its content is deleted first.

    Raises `AlreadyExists`, `StoreRefused` or `StoreUnavailable`.
    """
    async with _opened(choice) as store:
        if replace:
            await backups.empty(store)
        try:
            return await backups.restore(store, found)
        except AlreadyExists:
            raise AlreadyExists(
                f"{choice} holds a cluster already: name another store, or have it deleted by restore --replace"
            ) from None


@asynccontextmanager
async def _opened(choice: StoreChoice) -> AsyncIterator[Store]:
    store = open_store(choice, SystemClock())
    running = asyncio.create_task(store.run(), name="store")
    try:
        yield store
    finally:
        running.cancel()
        await asyncio.wait([running])
        await store.close()
