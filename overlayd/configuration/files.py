"""Files that are whole or not there, also after a crash."""

import os
from pathlib import Path

_OF_OTHERS = 0o044


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace the file's content in one step that survives a crash of the machine.

    A directory that is missing is made for the same readers. Raises `OSError`.
    """
    if not path.parent.exists():
        _make_directory(path.parent, 0o755 if mode & _OF_OTHERS else 0o700)
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # or that of a leftover
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Let the names in a directory survive a crash of the machine: that of a file does not by itself (fsync(2)).

    Raises `OSError`.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_directory(directory: Path, mode: int) -> None:
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(mode)  # whatever the umask
    for made in missing:
        sync_directory(made.parent)
