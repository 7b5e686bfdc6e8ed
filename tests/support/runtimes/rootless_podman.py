"""podman of a user who is not root, on a host of the lab: with the ids and the directory that a login gives."""

import sys
from pathlib import Path
from typing import Self

from tests.support.lab.lab import Container, LabHost, run
from tests.support.lab.processes import Process, eventually
from tests.support.machines.rootfs import Rootfs
from tests.support.runtimes.images import PAUSE
from tests.support.runtimes.podman import Podman

UID = 1000
_HOME = "/home/alice"
_IMAGE = f"{_HOME}/image"
_RUN = f"/run/user/{UID}"
_SOCKETS = "/var/lib/overlayd-users"

_USER = f"""\
grep -q ^alice: etc/passwd || echo alice:x:{UID}:{UID}::{_HOME}:/bin/sh >>etc/passwd
grep -q ^alice: etc/group || echo alice:x:{UID}: >>etc/group
echo alice:100000:65536 >etc/subuid
echo alice:100000:65536 >etc/subgid
mkdir -p .{_HOME} .{_RUN}
cp -r "$1" .{_IMAGE}
chown -R {UID}:{UID} .{_HOME} .{_RUN}
chmod 700 .{_RUN}
mkdir -p /run/devices
[ -e /run/devices/tun ] || mknod -m 666 /run/devices/tun c 10 200
mount --bind /run/devices/tun dev/net/tun
"""
"""A user of whom the machine itself knows nothing; every user may open /dev/net/tun, as systemd leaves it."""

_PIVOT = """\
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
os.chdir(sys.argv[1])
check(libc.unshare(0x20000)) # CLONE_NEWNS
check(libc.pivot_root(b".", b"."))
check(libc.umount2(b".", 2)) # MNT_DETACH
check(libc.mount(b"", b"/", None, ctypes.c_ulong(0x104000), None)) # MS_SHARED | MS_REC
print("ready", flush=True)
os.execv("/bin/sleep", ["sleep", "infinity"])
"""
"""Makes a root the root of a mount namespace: in one that was only changed to (chroot), the kernel makes no user
namespace (user_namespaces(7), EPERM)."""


class RootlessPodman(Podman):
    """The command, executed as a user; with the block ends all that the user has started."""

    def __init__(self, host: LabHost, root: Path, release: Rootfs) -> None:
        super().__init__(host, root, release, [_SOCKETS])

    def __enter__(self) -> Self:
        super().__enter__()
        place = self.place
        self.host.run("sh", "-ec", f'cd "$0"; {_USER}', place, str(self.root))
        command = self.host.enter([sys.executable, "-c", _PIVOT, place])
        self._holder = Process(self.group.start(command), self.host.directory / "rootless.log")
        self.ending.callback(self._holder.kill)
        eventually(lambda: "ready" in self._holder.output, "the root is a root of its own")
        return self

    def podman(self, *arguments: str) -> str:
        variables = [f"HOME={_HOME}", "USER=alice", f"XDG_RUNTIME_DIR={_RUN}", "PATH=/usr/local/bin:/usr/bin:/usr/sbin"]
        user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "env", "-i", "-C", _HOME, *variables]
        # Not by the host's own mount namespace: its network namespace is the same.
        inside = ["nsenter", f"--target={self._holder.pid.number}", "--net", "--mount", "--", *user]
        return run(self.group.start([*inside, "podman", "--storage-driver", "vfs", *arguments]))

    def run(self, name: str, network: str, *options: str, interface: str = "eth0") -> Container:
        chosen = ["--detach", "--name", name, "--network", network, *options]
        self.podman("run", *chosen, "--rootfs", _IMAGE, PAUSE)
        return self.found(name, network, interface)
