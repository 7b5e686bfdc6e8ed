"""The bootstrap of a store: the certificate authority that all controllers share, and a first admin token."""

import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from controller.identity.authority import Authority, utc
from controller.identity.roles import Role
from controller.identity.tokens import mint_access_token
from controller.journal.actor import BY_CONTROLLER
from controller.overlay import Overlay
from controller.state import keys
from controller.store.port import Committed, Compare, KeyValue, PutKey, Store, Transaction
from overlayd.configuration.files import sync_directory
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import Revision

_log = structlog.get_logger()

ADMIN = "admin"
"""The name of the first token."""


class EmptyStore(Exception):
    """The store is empty or not whole, and is not to become a new cluster."""


def former_traces(known_store: Path, authority: Path | None) -> list[Path]:
    """Return the files of this machine that show that its controller has served a cluster.

    `authority` is where the certificate of its authority stands, None for a controller that has a given certificate.
    """
    return [path for path in (known_store, authority) if path is not None and path.exists()]


def write_authority(path: Path, authority: Authority) -> None:
    """Write the certificate of the authority for people; log when it has changed. Raises `OSError`."""
    if path.exists() and path.read_text() != authority.certificate:
        _log.warning(
            "the certificate authority is another one than before: hosts must join again, and administrators log in",
            fingerprint=authority.fingerprint,
            file=str(path),
        )
    write_public(path, authority.certificate)


async def refuse_empty(store: Store, place: object, traces: Sequence[Path]) -> None:
    """Raise `EmptyStore` if the store at `place` is empty, but this machine has files of a cluster (`traces`).

    Otherwise the controller would begin a new cluster, with another authority, to which no host belongs.
    """
    if await store.get(keys.RESTORING):
        raise EmptyStore(
            f"a backup is being restored into {place}, or that was interrupted:"
            " overlay-controller restore --replace FILE"
        )
    if traces and (await store.count(keys.PREFIX)).number == 0:
        raise EmptyStore(
            f"{place} is empty, and {traces[0]} tells of a cluster that had its store there. Restore a backup of it"
            " (overlay-controller restore FILE), or correct --store; to begin a new cluster, of which no host of the"
            " former one is a part: overlay-controller new-cluster"
        )


async def shared_authority(store: Store, now: float) -> Authority:
    """Return the authority of a store; the first controller that asks makes it; `now` is in seconds since 1970 (UTC).

    Raises `ValueError` when it is damaged.
    """
    while True:
        found = await store.get(keys.AUTHORITY)
        if found is not None:
            return _decoded(found)
        made = Authority.create(utc(now))
        put = PutKey(keys.AUTHORITY, keys.encode({"certificate": made.certificate, "key": made.key}))
        if isinstance(await store.commit(Transaction((Compare(keys.AUTHORITY, Revision(0)),), (put,))), Committed):
            _log.info("made the certificate authority of this cluster", fingerprint=made.fingerprint)
            return made


async def ensure_admin(overlay: Overlay, path: Path) -> bool:
    """Make an admin token and write it to a file, unless there is an admin token; return whether one was made.

    The file comes first: a token that was never delivered would lock out every administrator. Raises `OSError`.
    """
    now = overlay.clock.wall()
    if any(record.role is Role.ADMIN and not record.is_expired(now) for record in overlay.tokens.all()):
        return False
    token = mint_access_token()
    write_secret(path, token.text)
    await overlay.tokens.add(BY_CONTROLLER, token, ADMIN, Role.ADMIN, None)
    return True


def write_secret(path: Path, text: str) -> None:
    """Write a line to a file that its owner alone can read; raise `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(f"{text}\n")
        file.flush()
        os.fsync(descriptor)
    sync_directory(path.parent)


def write_public(path: Path, text: str) -> None:
    """Write a file that every user with access to its directory can read; raise `OSError`."""
    path.write_text(text)
    path.chmod(0o644)


def _decoded(found: KeyValue) -> Authority:
    fields = keys.decode(found.value)
    try:
        authority = Authority(fields.text("certificate"), fields.text("key"))
        authority.check()
    except (InvalidValue, ValueError) as error:
        raise ValueError(f"the certificate authority in the store is damaged: {error}") from None
    return authority
