"""Finds the credentials that systemd gives a service, for other processes (systemd.exec(5), `LoadCredential=`)."""

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
