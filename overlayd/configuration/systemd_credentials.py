"""Finds the credentials that systemd gives a service, in it and for other processes (systemd.exec(5))."""

import os
from collections.abc import Sequence
from pathlib import Path

from overlayd.configuration import files

_ENCRYPTED = tuple(Path(directory) / "credstore.encrypted" for directory in ("/etc", "/run", "/usr/lib"))
"""The directories for `LoadCredentialEncrypted=`. Only systemd can decrypt the files in them."""

STORES = (
    Path("/run/credentials/@system"),
    *(Path(directory) / "credstore" for directory in ("/etc", "/run", "/usr/lib")),
    *_ENCRYPTED,
)


def kept(name: str, stores: Sequence[Path] = STORES) -> Path | None:
    """Return the file from which systemd makes a service's credential, None if there is none; raise `OSError`."""
    return next((path for path in (store / name for store in stores) if files.is_file(path)), None)


def is_encrypted(path: Path) -> bool:
    """Return whether a file is an encrypted credential, which only its service can read."""
    return path.parent in _ENCRYPTED


def credential(name: str) -> Path | None:
    """Return the file of a credential that systemd passed to this process (systemd.exec(5)); raise `OSError`."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory) / name if directory else None
    return path if path and files.is_file(path) else None


def credential_by_hand(name: str) -> Path | None:
    """Return the file of a credential for a command that a user runs: the one that systemd would pass to the service.

    Raises `PermissionError` when only other users may read it.
    """
    return credential(name) if os.environ.get("CREDENTIALS_DIRECTORY") else kept(name)
