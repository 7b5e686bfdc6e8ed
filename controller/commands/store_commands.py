"""`overlay-controller backup`, `restore`, `migrate`, `new-cluster`: work on a store outside a controller."""

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from controller import settings
from controller.clock import SystemClock
from controller.commands.options import (
    AdminTokenOption,
    ByHandConfigOption,
    JsonOption,
    StateDirectoryOption,
    StoreOption,
)
from controller.commands.store_options import StoreOptions, takes_store
from controller.lifecycle import backup_file as backups
from controller.lifecycle.backup_file import Backup
from controller.lifecycle.bootstrap import former_traces
from controller.settings import DEFAULT_STORE
from controller.state import keys
from controller.state.lineages import LineageRecord
from controller.store.embedded import EmbeddedStore, StoreRefused
from controller.store.etcd.cluster import Certificates
from controller.store.opening import StoreChoice, open_store
from controller.store.port import Store, StoreUnavailable
from controller.store.reading import everything, reading
from overlayd.configuration import sources
from overlayd.configuration.files import sync_directory
from overlayd.model.errors import AlreadyExists, InUse, OverlayError

_PARTS = ("", "-wal", "-shm")
"""SQLite's files: the database, what was written last, and what readers share."""

BackupFile = Annotated[Path, typer.Argument(metavar="FILE", help="The file of the backup.", show_default=False)]
ReplaceOption = Annotated[
    bool,
    typer.Option(
        "--replace",
        help="Replace a store that exists: a file is kept under another name, what etcd holds is deleted.",
    ),
]
NewAuthorityOption = Annotated[
    bool,
    typer.Option(
        "--new-authority",
        help="Leave the cluster's authority out, as its key may be in other hands: the next start makes another."
        " Every host must join again, and every administrator log in.",
    ),
]


@takes_store
def backup(
    context: typer.Context,
    store: StoreOptions,
    file: BackupFile,
    _config: ByHandConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write all of the store to a file, as it is at one moment; controllers may run meanwhile.

    The file holds the key of the cluster's authority: reading it is owning the cluster.
    """
    with _failing("no backup made"):
        with sources.located(context):
            choice = store.choice_of(store.store)
        made = asyncio.run(_read(choice))
        backups.write(file, made)
        body = {"file": str(file), "store": str(choice), "keys": len(made.items), "revision": made.revision}
        _tell(body, f"{file}: {len(made.items)} keys of {choice}, as of revision {made.revision}", as_json=as_json)


@takes_store
def restore(
    context: typer.Context,
    store: StoreOptions,
    file: BackupFile,
    _config: ByHandConfigOption = None,
    replace: ReplaceOption = False,
    new_authority: NewAuthorityOption = False,
    as_json: JsonOption = False,
) -> None:
    """Restore the store from a backup; no controller may run meanwhile.

    Controllers that start on it ask the hosts first what they use, and give out nothing new until then.
    """
    with _failing("not restored"):
        with sources.located(context):
            choice = store.choice_of(store.store)
        found = backups.read(file)
        if new_authority:
            found = backups.without_authority(found)
        with _StoreTarget(choice, replace=replace).prepared() as place:
            asyncio.run(_fill(place, found, replace=replace))
        body = {"store": str(choice), "keys": len(found.items), "revision": found.revision}
        said = f"{choice}: {len(found.items)} keys, as of revision {found.revision}. Now start the controllers"
        _tell(body, said, as_json=as_json)


@takes_store
def migrate(
    context: typer.Context,
    store: StoreOptions,
    target: Annotated[
        str, typer.Argument(metavar="FILE|URL", help="The store to move to; it must be empty.", show_default=False)
    ],
    _config: ByHandConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move the cluster to another store, from a file to an etcd or back; no controller may run meanwhile.

    A file that was moved is kept under another name. The options of etcd are for the store that is an etcd.
    """
    with _failing("not moved"):
        with sources.located(context):
            source, destination = store.choice_of(store.store), store.choice_of(target)
        with _unused(source), _StoreTarget(destination, replace=False).prepared() as place:
            found = asyncio.run(_read(source))
            asyncio.run(_fill(place, found, replace=False))
        kept = _set_aside(source, "migrated") if isinstance(source, Path) else None
        body = {"store": str(destination), "keys": len(found.items), "kept": str(kept) if kept else None}
        moved = f"{destination}: {len(found.items)} keys of {source}" + (f", which is {kept} now" if kept else "")
        then = (
            f'now write the new store into the settings of every controller (store = "{destination}"), and start them'
        )
        _tell(body, f"{moved}\n{then}", as_json=as_json)


def new_cluster(
    context: typer.Context,
    _config: ByHandConfigOption = None,
    store: StoreOption = DEFAULT_STORE,
    admin_token_file: AdminTokenOption = None,
    state_dir: StateDirectoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a controller begin a new cluster in its empty store, though this machine had one before.

    No host of the former cluster is part of the new one. Files about the former one are kept under other names.
    """
    with _failing("nothing changed"):
        with sources.located(context):
            choice = settings.parse_store(store, Certificates(), None, None)
        if isinstance(choice, Path) and choice.exists():
            raise InUse(f"{choice} is there, with what it holds: move it away first")
        token = admin_token_file or settings.state_file(choice, "admin-token")
        found = former_traces(settings.known_file(choice, state_dir), token.with_name("ca.pem"))
        kept = {str(path): str(_set_aside(path, "former")) for path in (*found, *([token] if token.exists() else []))}
        lines = [f"{path} is {name} now" for path, name in kept.items()]
        lines.append("the next start of a controller makes a new cluster" if kept else "no trace of a cluster here")
        _tell({"kept": kept}, "\n".join(lines), as_json=as_json)


class _StoreTarget:
    """Where a store is to be made."""

    def __init__(self, choice: StoreChoice, *, replace: bool) -> None:
        self._choice = choice
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
        with _unused(path):
            for part in _PARTS:
                made.with_name(made.name + part).unlink(missing_ok=True)
            try:
                yield made
                _give_to_owner(made)
                if path.exists():
                    _say(f"{path} is {_set_aside(path, 'before')} now")
                made.rename(path)
            finally:
                made.with_name(f"{made.name}.lock").unlink(missing_ok=True)
                made.unlink(missing_ok=True)
            sync_directory(path.parent)


@contextmanager
def _unused(choice: StoreChoice) -> Iterator[None]:
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
        yield


def _give_to_owner(path: Path) -> None:
    """Give a file the owner of its directory: root acts for the service's user."""
    owner = path.parent.stat()
    os.chown(path, owner.st_uid, owner.st_gid)


def _set_aside(path: Path, suffix: str) -> Path:
    """Rename a file, with SQLite's files beside it; return the new name."""
    number = 1
    while (kept := path.with_name(f"{path.name}.{suffix}-{number}")).exists():
        number += 1
    for part in _PARTS:
        found = path.with_name(path.name + part)
        if found.exists():
            found.rename(kept.with_name(kept.name + part))
    return kept


async def _read(choice: StoreChoice) -> Backup:
    async with reading(choice, SystemClock()) as store:
        return backups.of(*await everything(store, keys.ROOT))


async def _fill(choice: StoreChoice, found: Backup, *, replace: bool) -> LineageRecord:
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
    store = EmbeddedStore.open(choice, SystemClock()) if isinstance(choice, Path) else open_store(choice, SystemClock())
    running = asyncio.create_task(store.run(), name="store")
    try:
        yield store
    finally:
        running.cancel()
        await asyncio.wait([running])
        await store.close()


@contextmanager
def _failing(what: str) -> Iterator[None]:
    """Report errors as one line on standard error, with status 1."""
    try:
        yield
    except (OverlayError, StoreRefused, StoreUnavailable, OSError) as error:
        typer.echo(f"overlay-controller: {what}: {error}", err=True)
        raise typer.Exit(1) from None


def _tell(body: Mapping[str, object], text: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(body) if as_json else text)


def _say(line: str) -> None:
    """Print for people on standard error; standard output is for the result."""
    typer.echo(line, err=True)
