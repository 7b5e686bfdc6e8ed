"""Copies of this process's descriptors of a file, as a program has that is being started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def copied(path: Path) -> Iterator[None]:
    """Hold a copy of the descriptor of a file that this process has open, which must be one."""
    (found,) = opened(path)
    copy = os.dup(found)
    try:
        yield
    finally:
        os.close(copy)


def opened(path: Path) -> list[int]:
    """Return the descriptors of this process that are of a file."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that listed them is closed
            if entry.samefile(path):
                found.append(int(entry.name))
    return found
