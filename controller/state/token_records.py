"""The form of a token in the store, and the fields of it that may be shown."""

from controller.identity.roles import Role
from controller.identity.tokens import TokenKind, TokenRecord
from controller.state import keys
from overlayd.model import ids
from overlayd.wire.credentials import TokenId
from overlayd.wire.fields import Json
from overlayd.wire.unknown_fields import NOTHING, Unknown


def encode(record: TokenRecord, unknown: Unknown = NOTHING) -> bytes:
    """Return a token as it is stored, with the fields that another version of the controller had added to it."""
    return keys.encode(unknown.added_to(_whole(record)))


def _whole(record: TokenRecord) -> dict[str, Json]:
    return {**shown(record), "digest": record.digest, "joined_with": record.joined_with}


def shown(record: TokenRecord) -> dict[str, Json]:
    """Return the fields of a token that people may see; the history has the join token with which a host joined."""
    return {
        "id": record.id,
        "kind": record.kind,
        "name": record.name,
        "role": record.role,
        "host": record.host,
        "hosts": record.hosts,
        "created": record.created,
        "expires": record.expires,
        "by": record.by,
    }


def decode(value: bytes) -> tuple[TokenRecord, Unknown]:
    """Read a token of the store, and the fields of it that this version does not know."""
    fields = keys.decode(value)
    kind = fields.choice("kind", TokenKind)
    before = None if kind is TokenKind.ACCESS else 1  # what was written before there were tokens for several hosts
    record = TokenRecord(
        id=TokenId(fields.text("id")),
        kind=kind,
        name=fields.text("name"),
        role=fields.choice("role", Role),
        digest=fields.text("digest"),
        created=fields.number("created"),
        expires=fields.number("expires") if fields.has("expires") else None,
        host=ids.host_id(fields.text("host"), "host") if fields.has("host") else None,
        by=fields.text("by"),
        hosts=fields.number("hosts") if fields.has("hosts") else before,
        joined_with=TokenId(fields.text("joined_with")) if fields.has("joined_with") else None,
    )
    return record, Unknown.of(fields.value, _whole(record), ("v",))
