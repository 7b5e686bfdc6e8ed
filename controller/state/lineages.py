"""The lineage of the store: which course of events it holds, and whether hosts have yet to say what they use.

It is a record of the store, written when the store is made, and written again when the store is found to be older
than what is known of it, by `overlay-controller restore`, a controller that knew a later revision, or a host that does.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from controller.state import keys
from controller.store.port import Committed, Compare, PutKey, Store, Transaction
from overlayd.model import ids
from overlayd.model.cluster import UNKNOWN
from overlayd.model.ids import HostId, Revision
from overlayd.model.lineage import Lineage, parse_lineage

if TYPE_CHECKING:
    from overlayd.wire.fields import Json

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LineageRecord:
    """A lineage as the store has it.

    `parent` is the lineage that it went on from, None for the first of a cluster, and `parent_revision` how far that
    is contained in it. It is not `settled` while hosts may use what the store does not know of: then nothing is given
    out. `doubters` are the hosts by whose word a lineage of this cluster was renewed: each counts once.
    """

    lineage: Lineage
    parent: Lineage | None = None
    parent_revision: Revision = UNKNOWN
    settled: bool = True
    doubters: tuple[HostId, ...] = ()

    def renewed(self, revision: Revision, doubter: HostId | None = None) -> "LineageRecord":
        """Return the record of a lineage that goes on from a revision of this one."""
        doubters = self.doubters if doubter is None else (*self.doubters, doubter)
        return LineageRecord(
            self.lineage.renewed(), self.lineage, revision, settled=False, doubters=tuple(dict.fromkeys(doubters))
        )

    def put(self) -> PutKey:
        """Return the write of this record."""
        return PutKey(keys.LINEAGE, encode(self))


def encode(record: LineageRecord) -> bytes:
    """Return a lineage as it is stored."""
    doubters: list[Json] = [*record.doubters]
    return keys.encode(
        {
            "lineage": str(record.lineage),
            "parent": str(record.parent) if record.parent else None,
            "parent_revision": record.parent_revision,
            "settled": record.settled,
            "doubters": doubters,
        }
    )


def decode(value: bytes) -> LineageRecord:
    """Read a lineage of the store."""
    fields = keys.decode(value)
    return LineageRecord(
        lineage=parse_lineage(fields.text("lineage")),
        parent=parse_lineage(fields.text("parent"), "parent") if fields.has("parent") else None,
        parent_revision=Revision(fields.number("parent_revision")),
        settled=fields.flag("settled"),
        doubters=tuple(ids.host_id(text, "doubters") for text in fields.texts("doubters")),
    )


@dataclass(frozen=True, slots=True)
class KnownLineage:
    """What a controller knows of its store from before: its lineage, its revision, and which etcd it was ("": none)."""

    lineage: Lineage
    revision: Revision
    cluster: str


async def ensured(store: Store, known: KnownLineage | None) -> LineageRecord:
    """Return the lineage of a store, which is written if there is none, or if the store is older than what is known.

    Raises `StoreUnavailable`.
    """
    while True:
        found = await store.get(keys.LINEAGE)
        revision = await store.current_revision()
        if found is None:
            record = LineageRecord(Lineage.founded())
        else:
            record = decode(found.value)
            if not known or not (reason := _fault(record, revision, store.cluster, known)):
                return record
            record = record.renewed(revision)
            _log.warning("the store is not as it was; hosts are asked first what they use", reason=reason)
        unchanged = Compare(keys.LINEAGE, found.mod_revision if found else Revision(0))
        if isinstance(await store.commit(Transaction((unchanged,), (record.put(),))), Committed):
            return record


def _fault(record: LineageRecord, revision: Revision, cluster: str, known: KnownLineage) -> str | None:
    """Return why a store cannot be as it was known before, though it has the same lineage."""
    if record.lineage != known.lineage:
        return None  # what wrote the other one knew
    if revision < known.revision:
        return f"it is at revision {revision}, and was at {known.revision}"
    if cluster != known.cluster:
        return f"it is in etcd cluster {cluster or 'unknown'}, and was in {known.cluster or 'unknown'}"
    return None


def settled(record: LineageRecord) -> LineageRecord:
    """Return a lineage of which no host has anything more to say."""
    return replace(record, settled=True)
