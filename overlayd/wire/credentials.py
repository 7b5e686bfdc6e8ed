"""The text form of credentials: tokens, and the fingerprint of the cluster's certificate authority.

    ovt_<id>_<secret>                  access token: `Authorization: Bearer`
    ovj_<id>_<secret>_<fingerprint>    join token: exchanged for the access token of a host

The id identifies a token in lists, logs and errors; only the token itself contains the secret. The fingerprint is the
SHA-256 of the authority's certificate in DER form, as `openssl x509 -fingerprint -sha256` prints it. It is the word
`system` where the controllers have a certificate that the system's root certificates verify.
"""

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import NewType

from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted

TokenId = NewType("TokenId", str)

CONTROLLER_NAME = "overlay-controller"
"""A DNS name in the certificate of every controller. Our clients verify it, because addresses may change."""

ID_BYTES = 6
SECRET_BYTES = 20
"""160 random bits cannot be guessed, so storing a plain hash is as safe as storing a slow one."""

TOKEN_MAX = 256
"""Characters of the longest token."""

_SYSTEM = "system"
_ID, _SECRET = rf"[0-9a-f]{{{2 * ID_BYTES}}}", rf"[0-9a-f]{{{2 * SECRET_BYTES}}}"
_ACCESS = re.compile(rf"ovt_({_ID})_({_SECRET})", re.ASCII)
_JOIN = re.compile(rf"ovj_({_ID})_({_SECRET})_([0-9a-f]{{64}}|{_SYSTEM})", re.ASCII)
_TOKEN_ID = re.compile(_ID, re.ASCII)
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=\n]+)\n-----END CERTIFICATE-----\n?", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """The token that a caller sends with each request."""

    id: TokenId
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """The text form, which contains the secret."""
        return f"ovt_{self.id}_{self.secret}"


@dataclass(frozen=True, slots=True)
class JoinToken:
    """The token with which a host joins. With `fingerprint` None the system's root certificates verify controllers."""

    id: TokenId
    secret: str = field(repr=False)
    fingerprint: str | None

    @property
    def text(self) -> str:
        """The text form, which contains the secret."""
        return f"ovj_{self.id}_{self.secret}_{self.fingerprint or _SYSTEM}"


def parse_access_token(text: str, field: str = "token") -> AccessToken:
    """Read an access token; raise `InvalidValue` without the token in its text."""
    match = _ACCESS.fullmatch(text)
    if not match:
        hint = "a join token, which is for `overlayd join` only" if _JOIN.fullmatch(text) else "no token"
        raise InvalidValue(f"is {hint}: expected ovt_ and two groups of hexadecimal digits", field=field)
    return AccessToken(TokenId(match[1]), match[2])


def parse_join_token(text: str, field: str = "token") -> JoinToken:
    """Read a join token; raise `InvalidValue` without the token in its text."""
    match = _JOIN.fullmatch(text)
    if not match:
        hint = "an access token, with which no host can join" if _ACCESS.fullmatch(text) else "no join token"
        raise InvalidValue(f"is {hint}: expected ovj_ and three groups of hexadecimal digits", field=field)
    return JoinToken(TokenId(match[1]), match[2], None if match[3] == _SYSTEM else match[3])


def parse_token_id(text: str, field: str = "id") -> TokenId:
    """Check a token's id."""
    if not _TOKEN_ID.fullmatch(text):
        raise InvalidValue(f"{quoted(text)} is not {2 * ID_BYTES} hexadecimal digits", field=field)
    return TokenId(text)


def parse_fingerprint(text: str, field: str = "fingerprint") -> str:
    """Read a fingerprint, with or without colons, in either case; return it as 64 lower-case digits."""
    digits = text.replace(":", "").lower()
    if not _FINGERPRINT.fullmatch(digits):
        raise InvalidValue("is no SHA-256 fingerprint: expected 64 hexadecimal digits", field=field)
    return digits


def fingerprint(certificate: str, field: str = "certificate") -> str:
    """Return the fingerprint of one certificate in PEM form; raise `InvalidValue` when it is anything else.

    Nothing may follow the certificate: a text with the right fingerprint is trusted whole, and OpenSSL would also trust
    a second certificate that a lenient parser overlooks.
    """
    match = _PEM.fullmatch(certificate)
    try:
        der = base64.b64decode(match[1].replace("\n", ""), validate=True) if match else b""
    except ValueError:
        der = b""
    if not der:
        raise InvalidValue("is not one certificate in PEM form", field=field)
    return hashlib.sha256(der).hexdigest()
