"""Programs of another release of Debian on a host of the lab: they see its files, and libraries of their own."""

from collections.abc import Sequence

from tests.support.lab.lab import LabHost
from tests.support.machines.rootfs import Rootfs

_SHARED = ("/dev", "/proc", "/run", "/sys")
"""What is the machine's or the host's, with whatever is mounted there on either side."""

_SETTINGS = ("/etc/cni", "/etc/containers", "/opt/cni", "/var/lib/cni")
"""What a host of the lab has of its own, and container runtimes read."""


class ForeignRoot:
    """A root file system on one host. What is written there is in a tmpfs of the host, and goes with it."""

    def __init__(self, host: LabHost, rootfs: Rootfs, shared: Sequence[str]) -> None:
        """`shared` are directories that the programs are to see, beside those of the host."""
        self._host = host
        # Not in /run: the mount that a root is in must not be shared, or no runtime can pivot away from it.
        self.path = f"{host.directory}/{rootfs.name}"
        own = f"/run/{rootfs.name}"
        overlay = f"lowerdir={rootfs.made()},upperdir={own}/upper,workdir={own}/work"
        binds = [*_SETTINGS, str(host.directory), *shared]
        script = [f"mkdir -p {own}/upper {own}/work {self.path}"]
        script += [f"mount -t overlay -o {overlay} overlay {self.path}"]
        script += [f"mkdir -p {each} {self.path}{each}" for each in binds]
        script += [f"mount --bind {each} {self.path}{each}" for each in binds]
        script += [f"mount --rbind {each} {self.path}{each}" for each in _SHARED]
        host.run("sh", "-ec", "\n".join(script))

    def enter(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one with this root, for a shell of the host."""
        return ["chroot", self.path, *command]
