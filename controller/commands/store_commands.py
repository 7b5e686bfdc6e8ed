"""`overlay-controller backup`, `restore`, `migrate`, `new-cluster`: work on a store outside a controller."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from controller import settings
from controller.commands.options import (
    AdminTokenOption,
    ByHandConfigOption,
    JsonOption,
    StateDirectoryOption,
    StoreOption,
)
from controller.commands.store_options import StoreOptions, takes_store
from controller.settings import DEFAULT_STORE
from controller.store.etcd.cluster import Certificates
from overlayd.configuration import sources
from overlayd.model.errors import InUse, OverlayError

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
    """Write all of the store to a file, as it is at one moment. Controllers may keep running.

    The file holds the key of the cluster's authority: who can read it can take over the cluster.
    """
    from controller.commands import store_transfer
    from controller.lifecycle import backup_file as backups

    with _failing("no backup made"):
        with sources.located(context):
            choice = store.choice_of(store.store)
        made = asyncio.run(store_transfer.read(choice))
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
    """Restore the store from a backup. Stop all controllers before.

    Controllers that start on it ask the hosts first what they use, and give out nothing new until then.
    """
    from controller.commands import store_transfer
    from controller.commands.store_transfer import StoreTarget
    from controller.lifecycle import backup_file as backups

    with _failing("not restored"):
        with sources.located(context):
            choice = store.choice_of(store.store)
        found = backups.read(file)
        if new_authority:
            found = backups.without_authority(found)
        with StoreTarget(choice, _say, replace=replace).prepared() as place:
            asyncio.run(store_transfer.fill(place, found, replace=replace))
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
    """Move the cluster to another store, from a file to an etcd or back. Stop all controllers before.

    A file that was moved is kept under another name. The options of etcd are for the store that is an etcd.
    """
    from controller.commands import store_transfer
    from controller.commands.store_transfer import StoreTarget, set_aside, unused

    with _failing("not moved"):
        with sources.located(context):
            source, destination = store.choice_of(store.store), store.choice_of(target)
        with unused(source), StoreTarget(destination, _say, replace=False).prepared() as place:
            found = asyncio.run(store_transfer.read(source))
            asyncio.run(store_transfer.fill(place, found, replace=False))
        kept = set_aside(source, "migrated") if isinstance(source, Path) else None
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
    from controller.commands.store_transfer import set_aside
    from controller.lifecycle.bootstrap import former_traces

    with _failing("nothing changed"):
        with sources.located(context):
            choice = settings.parse_store(store, Certificates(), None, None)
        if isinstance(choice, Path) and choice.exists():
            raise InUse(f"{choice} is there, with what it holds: move it away first")
        token = admin_token_file or settings.state_file(choice, "admin-token")
        found = former_traces(settings.known_file(choice, state_dir), token.with_name("ca.pem"))
        kept = {str(path): str(set_aside(path, "former")) for path in (*found, *([token] if token.exists() else []))}
        lines = [f"{path} is {name} now" for path, name in kept.items()]
        lines.append("the next start of a controller makes a new cluster" if kept else "no trace of a cluster here")
        _tell({"kept": kept}, "\n".join(lines), as_json=as_json)


@contextmanager
def _failing(what: str) -> Iterator[None]:
    """Report errors as one line on standard error, with status 1."""
    from controller.store.embedded import StoreRefused

    try:
        yield
    except (OverlayError, StoreRefused, OSError) as error:
        typer.echo(f"overlay-controller: {what}: {error}", err=True)
        raise typer.Exit(1) from None


def _tell(body: Mapping[str, object], text: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(body) if as_json else text)


def _say(line: str) -> None:
    """Print for people on standard error; standard output is for the result."""
    typer.echo(line, err=True)
