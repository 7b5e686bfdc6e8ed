"""Files: atomic writes, durable or not, reads of untrusted files, locks, checks that do not take errors for absence."""

import fcntl
import os
import stat
from pathlib import Path

from overlayd.model.errors import InvalidValue

_OF_OTHERS = 0o044


def status(path: Path) -> os.stat_result | None:
    """Return the status of the file at a path, None when the kernel reports that there is none; raise `OSError`.

    ``Path.exists`` and similar methods treat some errors as absence, and since Python 3.14 all errors.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def exists(path: Path) -> bool:
    """Return whether there is a file of any kind at a path; raise `OSError` for any other error than its absence."""
    return status(path) is not None


def is_file(path: Path) -> bool:
    """Return whether there is a regular file at a path; raise `OSError` for any other error than its absence."""
    found = status(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_directory(path: Path) -> bool:
    """Return whether there is a directory at a path; raise `OSError` for any other error than its absence."""
    found = status(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def names(directory: Path) -> list[str]:
    """Return the sorted names in a directory, none when the directory is missing. Raises `OSError`.

    ``Path.glob`` treats errors as an empty directory.
    """
    try:
        return sorted(path.name for path in directory.iterdir())
    except FileNotFoundError:
        return []


def close_unlocked(descriptor: int) -> None:
    """End the lock that flock(2) gave this descriptor, and close it; raise `OSError`.

    A program that another thread is starting has a copy of every descriptor until it executes. To close this one alone
    would leave the file locked for that long.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def read_regular(path: Path, size_max: int) -> bytes:
    """Return the content of a regular file of at most `size_max` bytes. A FIFO is refused and never waited for.

    Raises `InvalidValue` with the file as its field when it is larger or no regular file, and `OSError`.
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


def replace_content(path: Path, content: bytes) -> None:
    """Replace the file's content atomically, and not durably: for what no boot needs of the one before.

    A process that reads it finds the old or the new content, also after this one was killed; after a crash of the
    machine it may be empty. Its mode is 0600, and its directory must be there. Raises `OSError`.
    """
    temporary = f"{path.parent}/.{path.name}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            written = os.write(descriptor, content)
            while written < len(content):
                written += os.write(descriptor, content[written:])
        finally:
            os.close(descriptor)
        os.rename(temporary, path)  # noqa: PTH104 - to make a Path takes as long as all the rest
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace the file's content atomically and durably: after a crash of the machine it is the old or the new content.

    A missing directory is created with the matching mode. Raises `OSError`.
    """
    if not exists(path.parent):
        make_directory(path.parent, 0o755 if mode & _OF_OTHERS else 0o700)
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # the file may be left from a crash, with another mode
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the entries of a directory durable; syncing a file does not sync its entry (fsync(2)).

    Raises `OSError`.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: Path, mode: int) -> None:
    """Make a directory with this mode, and what is missing above it, durably; raise `OSError`."""
    missing = [each for each in (directory, *directory.parents) if not exists(each)]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(mode)  # mkdir() applies the umask
    for made in missing:
        sync_directory(made.parent)
