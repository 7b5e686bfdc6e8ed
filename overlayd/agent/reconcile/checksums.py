"""Whether the kernel or the underlay device makes the checksums of tunnelled packets."""

from pathlib import Path

from overlayd.configuration.files import exists, write_atomically
from overlayd.model.ids import HostId


class Checksums:
    """`in_software`: the kernel makes them, because the underlay's device does not.

    A file below /run keeps that until the next boot, after which the device may be another one.
    """

    def __init__(self, path: Path) -> None:
        self.in_software = exists(path)
        self._path = path
        self._probed: set[HostId] = set()

    @property
    def probed(self) -> int:
        """How many hosts were sent a probe that tests the kernel's checksums."""
        return len(self._probed)

    def was_probed(self, host: HostId) -> None:
        """Record that a probe was sent to a host, whether or not it answered."""
        self._probed.add(host)

    def restore(self) -> bool:
        """Write the file again if it was removed; return whether it was. Raises `OSError`."""
        is_lost = self.in_software and not exists(self._path)
        if is_lost:
            write_atomically(self._path, b"")
        return is_lost

    def let_kernel(self, *, make_them: bool) -> None:
        """Let the kernel make them, or the underlay's device; raises `OSError` when the file cannot be written."""
        if make_them:
            write_atomically(self._path, b"")
        else:
            self._path.unlink(missing_ok=True)
        self.in_software = make_them
