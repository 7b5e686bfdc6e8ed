"""Tokens as the controllers know them: everything but the secret, of which they keep a hash."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from enum import StrEnum

from controller.identity.roles import Role
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import HostId, quoted
from overlayd.wire.credentials import ID_BYTES, SECRET_BYTES, AccessToken, JoinToken, TokenId

NAME_MAX = 100

_NO_DIGEST = "0" * 64
"""No secret has this hash: what the secret of an unknown token is compared with."""


class TokenKind(StrEnum):
    """What a token is good for."""

    ACCESS = "access"
    JOIN = "join"


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token without its secret. Times are whole seconds since 1970 (UTC); `expires` None: it lasts until revoked.

    The access token of a host acts for `host` only, and was made from the join token `joined_with`, None for one of an
    earlier release. A join token makes the credential of `host`, or those of `hosts` hosts that have none yet: with 0
    it is used up, and known until it ends. `by` is the name of who made it.
    """

    id: TokenId
    kind: TokenKind
    name: str
    role: Role
    digest: str
    created: int
    expires: int | None
    host: HostId | None
    by: str
    hosts: int | None = None
    joined_with: TokenId | None = None

    def __post_init__(self) -> None:
        """Raise `InvalidValue` when a field breaks its rule."""
        if not 1 <= len(self.name) <= NAME_MAX or not self.name.isprintable():
            raise InvalidValue(f"{quoted(self.name)} must have 1 to {NAME_MAX} printable characters", field="name")
        if self.kind is TokenKind.ACCESS and (self.role is Role.HOST) != (self.host is not None):
            raise InvalidValue("a token of role host, and no other, names its host", field="host")
        if self.kind is TokenKind.JOIN and self.role is not Role.HOST:
            raise InvalidValue("a join token is for hosts", field="role")
        if self.hosts is not None if self.kind is TokenKind.ACCESS else self.hosts is None or self.hosts < 0:
            raise InvalidValue("a join token, and no other, is for a number of hosts", field="hosts")
        if self.host is not None and self.hosts not in {None, 0, 1}:
            raise InvalidValue("a join token for one host joins that host only", field="hosts")
        if self.joined_with is not None and (self.kind is TokenKind.JOIN or self.host is None):
            raise InvalidValue("only the access token of a host is made from a join token", field="joined_with")

    def is_expired(self, now: float) -> bool:
        """Return whether the token has expired; `now` is in seconds since 1970 (UTC)."""
        return self.expires is not None and self.expires <= now


def mint_access_token() -> AccessToken:
    """Return a new token."""
    return AccessToken(TokenId(secrets.token_hex(ID_BYTES)), secrets.token_hex(SECRET_BYTES))


def mint_join_token(fingerprint: str | None) -> JoinToken:
    """Return a new token for a host, which finds the controllers by the fingerprint of their authority."""
    return JoinToken(TokenId(secrets.token_hex(ID_BYTES)), secrets.token_hex(SECRET_BYTES), fingerprint)


def digest(secret: str) -> str:
    """Return the hash of a secret that is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(record: TokenRecord | None, secret: str) -> bool:
    """Return whether this secret is that of the record's token, in constant time, also without a record."""
    return hmac.compare_digest(record.digest if record else _NO_DIGEST, digest(secret))
