"""The lock that lets only one agent run on a host."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overlayd.configuration.files import close_unlocked, status
from overlayd.model.errors import InUse

_NAME = "lock"


class Lock:
    """A file that one process locks; only root can open it. The kernel ends the lock with the process."""

    def __init__(self, directory: Path) -> None:
        """Take the lock; create a missing directory. Raises `InUse` when another agent has it, or `OSError`."""
        self._path = directory / _NAME
        self._fd = _locked(self._path)

    def is_lost(self) -> bool:
        """Return whether the file was removed, so that another process could lock a new one; raise `OSError`."""
        there, ours = status(self._path), os.fstat(self._fd)
        return there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def renew(self) -> None:
        """Lock the file that is now at the path, or a new one; raises as the constructor does."""
        fd, self._fd = self._fd, _locked(self._path)
        close_unlocked(fd)

    def close(self) -> None:
        """Let another process lock it."""
        close_unlocked(self._fd)


def _locked(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        os.fchmod(fd, 0o600)  # an older agent's file may be open to others
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise InUse(f"another overlayd runs on this host: it holds {path}") from None
    except OSError:
        os.close(fd)
        raise
    return fd


@contextmanager
def held(*directories: Path) -> Iterator[tuple[Lock, ...]]:
    """Hold the agent's lock in each of these directories; raises as `Lock` does.

    One of them outlives a removal of the other: what is on a tmpfs is easily removed by hand.
    """
    locks: list[Lock] = []
    try:
        locks.extend(Lock(directory) for directory in directories)
        yield tuple(locks)
    finally:
        for lock in locks:
            lock.close()
