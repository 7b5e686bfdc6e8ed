"""Backups: a whole store in one file, from which a store of any kind can be restored.

A line of JSON is the header, one each is a key with its value, and the last one proves that the file is whole. Keys on
the lease of a running controller are left out; keys in quarantine are included, and their quarantine begins again.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from controller.rules.defaults import QUARANTINE
from controller.state import keys, lineages
from controller.state.lineages import LineageRecord
from controller.store.port import (
    TRANSACTION_MAX,
    Committed,
    Compare,
    DeleteKey,
    KeyValue,
    PutKey,
    Store,
    Transaction,
    Unmodified,
)
from overlayd.configuration.files import write_atomically
from overlayd.model.errors import AlreadyExists, InvalidValue
from overlayd.model.ids import Revision
from overlayd.wire.fields import Fields, Json

_VERSION = 1

_SLOTS = "/overlayd/commits/"
"""What the etcd store writes for itself."""

_BYTES_MAX = 256 * 1024
"""The most bytes of values in one transaction."""


@dataclass(frozen=True, slots=True)
class Item:
    """A key and its value; one that `rests` is on the lease of a quarantine."""

    key: str
    value: bytes
    rests: bool


@dataclass(frozen=True, slots=True)
class Backup:
    """The content of a store as of a revision of its lineage."""

    lineage: LineageRecord
    revision: Revision
    items: tuple[Item, ...]


def of(found: Iterable[KeyValue], revision: Revision) -> Backup:
    """Return the backup of a store with these keys; raise `InvalidValue` when it is no controllers' store."""
    everything = {each.key: each for each in found}
    mark = everything.get(keys.LINEAGE)
    if mark is None or keys.RESTORING in everything:
        raise InvalidValue("holds no cluster, or one of before there were backups: let a controller run on it once")
    items = (
        Item(each.key, each.value, each.lease is not None)
        for each in everything.values()
        if not each.key.startswith((_SLOTS, keys.PRESENCE)) and each.key != keys.LINEAGE
    )
    return Backup(lineages.decode(mark.value), revision, tuple(items))


def write(path: Path, backup: Backup) -> None:
    """Write a backup to a file that its owner alone can read; raise `OSError`."""
    lines = [json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in _lines(backup)]
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    end = json.dumps({"keys": len(backup.items), "sha256": digest}).encode() + b"\n"
    write_atomically(path, b"".join((*lines, end)))


def read(path: Path) -> Backup:
    """Read a backup; raise `InvalidValue` that names the file when it is none, or is damaged, `OSError`."""
    *lines, end = path.read_bytes().splitlines(keepends=True) or [b""]
    try:
        header = _header(lines, Fields(json.loads(end)))
        lineage = lineages.decode(header.text("lineage").encode())
        items = tuple(_item(Fields(json.loads(line))) for line in lines[1:])
        return Backup(lineage, Revision(header.number("revision")), items)
    except (ValueError, RecursionError, IndexError, InvalidValue) as error:
        raise InvalidValue(f"is no backup, or is damaged: {error}", field=str(path)) from None


def without_authority(backup: Backup) -> Backup:
    """Return the backup without the authority, of which the next controller makes a new one."""
    return replace(backup, items=tuple(item for item in backup.items if item.key != keys.AUTHORITY))


async def restore(store: Store, backup: Backup) -> LineageRecord:
    """Write a backup into an empty store, with a new lineage of its cluster; return that lineage.

    Hosts then state what they know beyond the backup. Raises `AlreadyExists` when the store is not empty,
    `StoreUnavailable`.
    """
    record = backup.lineage.renewed(backup.revision)
    nothing = Revision(0)
    empty = (Unmodified(keys.PREFIX, nothing), Unmodified(keys.HISTORY, nothing), Compare(keys.AUTHORITY, nothing))
    begun = Transaction((*empty, Compare(keys.RESTORING, nothing)), (PutKey(keys.RESTORING, keys.EMPTY),))
    if not isinstance(await store.commit(begun), Committed):
        raise AlreadyExists("it is not empty")
    lease = await store.grant(QUARANTINE) if any(item.rests for item in backup.items) else None
    puts = [PutKey(item.key, item.value, lease if item.rests else None) for item in backup.items]
    # Every record is older than the mark of the intent, as in a store that came to be by and by.
    last = [put for put in puts if put.key == keys.INTENT] or [PutKey(keys.INTENT, keys.EMPTY)]
    for step in _steps(put for put in puts if put.key != keys.INTENT):
        await store.commit(Transaction((), step))
    await store.commit(Transaction((), (*last, record.put(), DeleteKey(keys.RESTORING))))
    return record


async def empty(store: Store) -> None:
    """Delete all that controllers have written."""
    page = await store.page(keys.ROOT, limit=TRANSACTION_MAX)
    while page.items:
        gone = tuple(DeleteKey(item.key) for item in page.items if not item.key.startswith(_SLOTS))
        await store.commit(Transaction((), gone))
        page = await store.page(keys.ROOT, limit=TRANSACTION_MAX, after_key=page.items[-1].key)


def _lines(backup: Backup) -> Iterator[Json]:
    yield {
        "overlayd-backup": _VERSION,
        "lineage": lineages.encode(backup.lineage).decode(),
        "revision": backup.revision,
    }
    for item in backup.items:
        yield {"key": item.key, "value": base64.b64encode(item.value).decode(), "rests": item.rests}


def _header(lines: list[bytes], end: Fields) -> Fields:
    """Return the first line, if the last one proves that the file is complete; raise `InvalidValue`."""
    if end.text("sha256") != hashlib.sha256(b"".join(lines)).hexdigest():
        raise InvalidValue("its digest does not match")
    header = Fields(json.loads(lines[0]))
    if (version := header.number("overlayd-backup")) > _VERSION:
        raise InvalidValue(f"it is of version {version}, and this program reads {_VERSION}")
    return header


def _item(fields: Fields) -> Item:
    return Item(fields.text("key"), base64.b64decode(fields.text("value"), validate=True), fields.flag("rests"))


def _steps(puts: Iterable[PutKey]) -> Iterator[tuple[PutKey, ...]]:
    step: list[PutKey] = []
    size = 0
    for put in puts:
        if step and (len(step) == TRANSACTION_MAX or size + len(put.value) > _BYTES_MAX):
            yield tuple(step)
            step, size = [], 0
        step.append(put)
        size += len(put.value)
    if step:
        yield tuple(step)
