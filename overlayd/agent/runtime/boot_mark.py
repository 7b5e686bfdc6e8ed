"""The boot to which the agent's directory below /run belongs: what an earlier one left there is removed."""

import shutil
from pathlib import Path

import structlog

from overlayd.configuration.files import exists, is_directory, read_regular, write_atomically
from overlayd.model.errors import InvalidValue

_log = structlog.get_logger(__name__)

_NAME = "boot-id"
_SIZE_MAX = 64
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_OF_ONE_BOOT = (
    "attachments",
    "held-addresses",
    "resting",
    "tables",
    "software-checksums",
    "del-queue",
    "teardown-queue",
)
"""What is true until the next boot only: containers, the kernel's tables, and times since the boot."""


def boot_id() -> str:
    """Return the kernel's id of this boot (random(4)); raise `OSError`."""
    return _BOOT_ID.read_text().strip()


class BootMark:
    """A file in a directory that names the boot of which its content is.

    The directory should be on a tmpfs, and then has nothing of an earlier boot. An administrator may have put it
    elsewhere, or keep /run over boots.
    """

    def __init__(self, directory: Path, boot: str) -> None:
        self._directory = directory
        self._path = directory / _NAME
        self._boot = boot

    def enter(self) -> None:
        """Remove what an earlier boot left, and mark the directory with this one.

        Earlier releases made no mark: what they left counts as of this boot. A mark that cannot be written now is
        written by `restore`. Raises `OSError` when something cannot be removed.
        """
        marked = self._marked()
        if marked == self._boot:
            return
        if marked is not None:
            _log.warning("the agent's directory outlived a boot: what is of the earlier one is removed")
            for name in _OF_ONE_BOOT:
                _remove(self._directory / name)
            self._path.unlink()
        try:
            self._write()
        except OSError as error:
            _log.warning("cannot mark the agent's directory with this boot; trying again", problem=str(error))

    def restore(self) -> bool:
        """Write the mark again if it was removed; return whether it was. Raises `OSError`."""
        is_lost = not exists(self._path)
        if is_lost:
            self._write()
        return is_lost

    def _marked(self) -> str | None:
        """Return the boot that the mark names, None without a mark; a damaged one names none that can be this one."""
        try:
            return read_regular(self._path, _SIZE_MAX).decode(errors="replace").strip()
        except FileNotFoundError:
            return None
        except InvalidValue:
            return ""

    def _write(self) -> None:
        write_atomically(self._path, self._boot.encode())


def _remove(path: Path) -> None:
    if is_directory(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
