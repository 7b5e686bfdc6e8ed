"""How the checksums of what is in the tunnel are made on this host."""

from pathlib import Path

from overlayd.configuration.files import exists, write_atomically
from overlayd.model.ids import HostId


class Checksums:
    """`in_software`: the kernel makes them, since the underlay's device does not.

    That is remembered in a file that does not outlive the boot, with which the device may be another one.
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
        """Remember it again if the file was removed; tell whether it was. Raises `OSError`."""
        is_lost = self.in_software and not exists(self._path)
        if is_lost:
            write_atomically(self._path, b"")
        return is_lost

    def let_kernel(self, *, make_them: bool) -> None:
        """Have the kernel make them, or the underlay's device; raises `OSError` when that cannot be remembered."""
        if make_them:
            write_atomically(self._path, b"")
        else:
            self._path.unlink(missing_ok=True)
        self.in_software = make_them
