"""Who this host is, and what it received when it joined: its token, the controllers' URLs, how to authenticate them."""

import json
import secrets
import uuid
from dataclasses import dataclass
from pathlib import Path

from overlayd.agent.controllers.trust import Trust
from overlayd.configuration import systemd_credentials
from overlayd.configuration.files import read_regular, write_atomically
from overlayd.model import ids
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import HostId
from overlayd.wire.credentials import AccessToken, fingerprint, parse_access_token
from overlayd.wire.fields import Fields, Json

JOIN_TOKEN = "overlayd.join-token"  # noqa: S105 - a name
"""The systemd credential that holds a join token: with it, and the URL of a controller, a host joins by itself."""

CREDENTIAL = "overlayd.credential"
"""The systemd credential that holds a `credential.json`, for hosts that keep none themselves."""

_NAME = "credential.json"
_SIZE_MAX = 1 << 20
"""Bytes; a certificate takes two thousand."""

_ID_SIZE_MAX = 1 << 10
"""Bytes; an id is a UUID."""


@dataclass(frozen=True, slots=True)
class Identity:
    """`id` stays for the life of the host; `instance` tells two machines apart that were cloned with one id."""

    id: HostId
    instance: str


def load_identity(state_dir: Path) -> Identity:
    """Read the host's id, or make it at the first start; raise `InvalidValue` when the file is damaged."""
    path = state_dir / "host-id"
    try:
        text = read_regular(path, _ID_SIZE_MAX).decode(errors="replace").strip()
    except FileNotFoundError:
        text = str(uuid.uuid4())
        write_atomically(path, f"{text}\n".encode())
    return Identity(ids.host_id(text, str(path)), secrets.token_hex(8))


@dataclass(frozen=True, slots=True)
class Credential:
    """A host's credential. `authority` is a certificate (PEM), None if the system's root certificates are used."""

    controllers: tuple[str, ...]
    token: AccessToken
    authority: str | None

    @property
    def trust(self) -> Trust:
        return Trust(self.authority)


def known(state_dir: Path) -> Credential | None:
    """Return this host's credential: its own file, or else the one that systemd passes.

    None when it has not joined. Raises `InvalidValue` and `OSError`.
    """
    handed = systemd_credentials.credential(CREDENTIAL)
    return load(state_dir) or (read(handed) if handed else None)


def join_token() -> Path | None:
    """Return the file of the join token that systemd passes, None when there is none; raise `OSError`."""
    return systemd_credentials.credential(JOIN_TOKEN)


def load(state_dir: Path) -> Credential | None:
    """Return this host's credential, None when it has not joined; raise `InvalidValue` when the file is damaged."""
    return read(state_dir / _NAME)


def read(path: Path) -> Credential | None:
    """Return the credential in a file, otherwise as `load`."""
    try:
        content = read_regular(path, _SIZE_MAX)
    except FileNotFoundError:
        return None
    try:
        fields = Fields(json.loads(content))
        authority = fields.text("authority") if fields.has("authority") else None
        if authority is not None:
            fingerprint(authority, "authority")
        return Credential(
            controllers=tuple(text for text in fields.items("controllers") if isinstance(text, str)),
            token=parse_access_token(fields.text("token")),
            authority=authority,
        )
    except (ValueError, RecursionError, InvalidValue) as error:
        reason = f"{error.field} {error.detail}" if isinstance(error, InvalidValue) else "it is not JSON"
        raise InvalidValue(f"the credential is damaged: {reason}; let the host join again", field=str(path)) from None


def save(state_dir: Path, credential: Credential) -> Path:
    """Write this host's credential, readable by its owner only; return the path of the file."""
    path = state_dir / _NAME
    controllers: list[Json] = [*credential.controllers]
    document: dict[str, Json] = {
        "controllers": controllers,
        "token": credential.token.text,
        "authority": credential.authority,
    }
    write_atomically(path, json.dumps(document, indent=2).encode() + b"\n")
    return path
