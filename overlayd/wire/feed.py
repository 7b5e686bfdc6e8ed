"""The feed from a controller to an agent: newline-delimited JSON, one object per line.

A feed is either a *snapshot* (any number of `Snapshot` messages, then `InSync`) or a *resume* (any number of `Delta`
messages after the revision that the agent named, then `InSync`). `Delta` messages for later changes follow, and
`Bookmark` messages that carry a revision only: they prove that the stream is alive, and that no change up to that
revision concerned this host.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from overlayd.model.cluster import Record, RecordKey
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import Revision
from overlayd.model.lineage import Lineage, parse_lineage
from overlayd.wire import records
from overlayd.wire.fields import Fields, Json

FEED_VERSION = 2
"""The version of the feed that this release speaks. A change that agents of the previous version cannot read raises it.

An agent requests its version; one that requests none speaks 1 (`schema1`). A controller answers in that version, or in
its own when that is lower, and names it in `InSync`.
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A part of the state as of `revision`. The first one of a stream replaces everything that the agent knew."""

    revision: Revision
    puts: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """All changes of one revision (in a resume, of several) that concern this host, to be applied together."""

    revision: Revision
    puts: tuple[Record, ...]
    deletes: tuple[RecordKey, ...]


@dataclass(frozen=True, slots=True)
class InSync:
    """The agent now knows the whole state as of `revision`; only from here on may it delete anything.

    `version` is that of this feed: an agent cannot resume in a newer version than that of its last feed. `lineage` is
    the one of the revision, None from a controller of a release without lineages.
    """

    revision: Revision
    version: int = FEED_VERSION
    lineage: Lineage | None = None


@dataclass(frozen=True, slots=True)
class Bookmark:
    """Nothing else up to `revision` concerned this host.

    `stale` means that the controller cannot reach its store, and that another one may know more.
    """

    revision: Revision
    stale: bool = False


FeedMessage = Snapshot | Delta | InSync | Bookmark


def encode_line(message: FeedMessage, encode: Callable[[Record], dict[str, Json]] = records.encode_tagged) -> bytes:
    """Return the message as one line of JSON, newline included, with its records as `encode` writes them."""
    body: dict[str, Json] = {"revision": message.revision}
    match message:
        case Snapshot(puts=puts):
            body |= {"type": "snapshot", "puts": [encode(record) for record in puts]}
        case Delta(puts=puts, deletes=deletes):
            body |= {
                "type": "delta",
                "puts": [encode(record) for record in puts],
                "deletes": [records.encode_key(key) for key in deletes],
            }
        case InSync(version=version, lineage=lineage):
            body |= {"type": "in-sync", "version": version}
            if lineage:
                body["lineage"] = str(lineage)
        case Bookmark(stale=stale):
            body |= {"type": "bookmark"} | ({"stale": True} if stale else {})
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def decode_line(line: bytes) -> FeedMessage:
    """Read one line; raise `InvalidValue` that names the field when it is malformed."""
    try:
        fields = Fields(json.loads(line))
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"the feed sent a line that is not JSON: {error}") from None
    revision = Revision(fields.number("revision"))
    match fields.text("type"):
        case "snapshot":
            return Snapshot(revision, _puts(fields))
        case "delta":
            return Delta(revision, _puts(fields), tuple(records.decode_key(key) for key in fields.objects("deletes")))
        case "in-sync":
            return InSync(
                revision,
                fields.number("version") if fields.has("version") else 1,
                parse_lineage(fields.text("lineage")) if fields.has("lineage") else None,
            )
        case "bookmark":
            return Bookmark(revision, fields.flag("stale"))
        case other:
            raise InvalidValue(f"unknown message {other!r}", field="type")


def _puts(fields: Fields) -> tuple[Record, ...]:
    return tuple(records.decode_tagged(record) for record in fields.objects("puts"))
