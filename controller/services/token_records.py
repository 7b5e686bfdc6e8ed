"""How what is known of a token stands in the store, and how much of it may be shown."""

from controller.identity.roles import Role
from controller.identity.tokens import TokenKind, TokenRecord
from controller.services import keys
from overlayd.model import ids
from overlayd.wire.credentials import TokenId
from overlayd.wire.fields import Json


def encode(record: TokenRecord) -> bytes:
    """Return a token as it stands in the store."""
    return keys.encode({**shown(record), "digest": record.digest})


def shown(record: TokenRecord) -> dict[str, Json]:
    """Return what people may see of a token: everything but the hash of its secret."""
    return {
        "id": record.id,
        "kind": record.kind,
        "name": record.name,
        "role": record.role,
        "host": record.host,
        "created": record.created,
        "expires": record.expires,
        "by": record.by,
    }


def decode(value: bytes) -> TokenRecord:
    """Read a token of the store."""
    fields = keys.decode(value)
    return TokenRecord(
        id=TokenId(fields.text("id")),
        kind=fields.choice("kind", TokenKind),
        name=fields.text("name"),
        role=fields.choice("role", Role),
        digest=fields.text("digest"),
        created=fields.number("created"),
        expires=fields.number("expires") if fields.has("expires") else None,
        host=ids.host_id(fields.text("host"), "host") if fields.has("host") else None,
        by=fields.text("by"),
    )
