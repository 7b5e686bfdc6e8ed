"""Files that are whole or not there, also after a crash; and files that are read as input, which may be anything."""

import os
import stat
from pathlib import Path

from overlayd.model.errors import InvalidValue

_OF_OTHERS = 0o044


def status(path: Path) -> os.stat_result | None:
    """Return the status of what a path leads to, None when the system says that there is nothing; raise `OSError`.

    Unlike ``Path.exists`` and its like, which take some errors, and since Python 3.14 all of them, for absence.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def exists(path: Path) -> bool:
    """Tell whether a path leads to something; raise `OSError` when the system does not say."""
    return status(path) is not None


def is_file(path: Path) -> bool:
    """Tell whether a path leads to a regular file; raise `OSError` when the system does not say."""
    found = status(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_directory(path: Path) -> bool:
    """Tell whether a path leads to a directory; raise `OSError` when the system does not say."""
    found = status(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def names(directory: Path) -> list[str]:
    """Return the names in a directory, in order; none when there is no such directory. Raises `OSError`.

    Unlike ``Path.glob``, which takes errors for an empty directory.
    """
    try:
        return sorted(path.name for path in directory.iterdir())
    except FileNotFoundError:
        return []


def read_regular(path: Path, size_max: int) -> bytes:
    """Return the content of a file of at most `size_max` bytes, without ever waiting for somebody who writes.

    Raises `InvalidValue` that names the file when it is larger, or a FIFO or a device, and `OSError`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidValue("is no regular file", field=str(path))
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(size_max + 1)
    if len(content) > size_max:
        raise InvalidValue(f"is larger than {size_max} bytes", field=str(path))
    return content


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace the file's content in one step that survives a crash of the machine.

    A directory that is missing is made for the same readers. Raises `OSError`.
    """
    if not exists(path.parent):
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
    missing = [each for each in (directory, *directory.parents) if not exists(each)]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(mode)  # whatever the umask
    for made in missing:
        sync_directory(made.parent)
