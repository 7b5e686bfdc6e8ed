"""Where a service's credentials come from (systemd.exec(5), `LoadCredential=` without a path), for who is not it."""

from collections.abc import Sequence
from pathlib import Path

from overlayd.configuration import files

_ENCRYPTED = tuple(Path(directory) / "credstore.encrypted" for directory in ("/etc", "/run", "/usr/lib"))
"""For `LoadCredentialEncrypted=`. What is there can be seen, but only systemd can decrypt it."""

STORES = (
    Path("/run/credentials/@system"),
    *(Path(directory) / "credstore" for directory in ("/etc", "/run", "/usr/lib")),
    *_ENCRYPTED,
)


def kept(name: str, stores: Sequence[Path] = STORES) -> Path | None:
    """Return the file that is or becomes a service's credential, None if there is none; raise `OSError`."""
    return next((path for path in (store / name for store in stores) if files.is_file(path)), None)


def is_encrypted(path: Path) -> bool:
    """Tell whether a file is a credential that its service alone can read."""
    return path.parent in _ENCRYPTED
