"""The filter of a watch, and the lines of its stream."""

import json
from dataclasses import dataclass

from overlayd.model.cluster import Record, RecordKey
from overlayd.model.host import Host
from overlayd.model.ids import NetworkName, Revision
from overlayd.model.network import Network
from overlayd.wire import records
from overlayd.wire.fields import Json

PIECE_MAX = 32 * 1024
"""Bytes that are sent in one piece, and a line more: what a reader that does not read makes the controller keep."""


@dataclass(frozen=True, slots=True)
class WatchFilter:
    """Which records a watch reports; None means any. Hosts are in no network."""

    kind: type[Record] | None
    network: NetworkName | None

    def admits(self, key: RecordKey) -> bool:
        """Return whether a record passes the filter."""
        return self.kind in (None, key.kind) and self.network in (None, _network(key))


def put(record: Record, revision: Revision) -> bytes:
    """Return the line about a record that is there at a revision."""
    kind = records.name_of(type(record))
    return _line({"type": "put", "revision": revision, "kind": kind, "object": records.encode(record)})


def delete(key: RecordKey, revision: Revision) -> bytes:
    """Return the line about a record that a revision removed."""
    return _line({"type": "delete", "revision": revision, **records.encode_key(key)})


def in_sync(revision: Revision) -> bytes:
    """Return the line that says that everything has been sent."""
    return _line({"type": "in-sync", "revision": revision})


def bookmark(revision: Revision) -> bytes:
    """Return the line that says up to which revision everything has been sent."""
    return _line({"type": "bookmark", "revision": revision})


def _network(key: RecordKey) -> NetworkName | None:
    if key.kind is Host:
        return None
    return NetworkName(str(key.key)) if key.kind is Network else NetworkName(str(key.key[0]))


def _line(message: dict[str, Json]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
