"""Notifications of changed files (inotify(7)), for which Python's library has no call."""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from overlayd.kernel.port import KernelError, translated

IN_MODIFY = 0x2
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200

LOST = -1
"""The watch of the event that says that events were lost."""

_IN_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_EVENT = struct.Struct("=iIII")
_BUFFER = 1 << 16
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class FileEvent:
    """Something happened to what is watched as `watch`, or `LOST`. `name` is that in a directory."""

    watch: int
    name: str


class Inotify:
    """A queue of events. Reading never blocks."""

    def __init__(self) -> None:
        self._fd = _checked(_LIBC.inotify_init1(_IN_NONBLOCK_CLOEXEC), "inotify_init1")

    def fileno(self) -> int:
        """Return the descriptor, readable while there are events."""
        return self._fd

    def watch(self, path: Path, mask: int) -> int:
        """Watch a file or a directory; return what its events bear.

        Raises `KernelError`, ENOSPC when this user may have no more watches.
        """
        what = f"watch {path} (fs.inotify.max_user_watches limits how many there are)"
        return _checked(_LIBC.inotify_add_watch(self._fd, os.fsencode(path), mask), what)

    def unwatch(self, watch: int) -> None:
        """Stop watching; what is queued may still come."""
        _LIBC.inotify_rm_watch(self._fd, watch)  # EINVAL: the file is gone, and its watch with it

    def events(self) -> Iterator[FileEvent]:
        """Yield the queued events."""
        while data := self._read():
            offset = 0
            while offset < len(data):
                watch, _, _, length = _EVENT.unpack_from(data, offset)
                offset += _EVENT.size
                yield FileEvent(watch, os.fsdecode(data[offset : offset + length].rstrip(b"\0")))
                offset += length

    def close(self) -> None:
        """Stop watching everything."""
        os.close(self._fd)

    def _read(self) -> bytes:
        with translated("inotify"):
            try:
                return os.read(self._fd, _BUFFER)
            except BlockingIOError:
                return b""


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise KernelError(code or errno.EIO, f"{what}: {os.strerror(code)}")
    return result
