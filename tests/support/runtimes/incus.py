"""Incus on a host of the lab, with an image of one program that waits."""

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.support.lab.cgroups import ControlGroup
from tests.support.lab.lab import LabHost, run
from tests.support.lab.processes import Process, eventually
from tests.support.machines.rootfs import INCUS
from tests.support.runtimes.foreign_root import ForeignRoot
from tests.support.runtimes.images import PAUSE

IMAGE = "pause"

_PIVOT = """\
mount --bind "$1" "$1"; mount --make-private "$1"; mkdir -p "$1/old"
for each in dev proc run sys; do mount --rbind --make-rslave /$each "$1/$each"; done
cd "$1"; pivot_root . old; umount -l /old; shift; exec "$@"
"""
"""Makes a directory the root in a mount namespace of its own: a process in a chroot can have no user namespace."""

_PREPARE = """\
cd "$1"; mkdir -p content/dev content/proc content/sys content/run content/tmp content/etc content/root content/sbin
cp "$2" content/sbin/init; tar -czf content.tar.gz -C content .
printf 'architecture: %s\\ncreation_date: 1\\nproperties: {os: none}\\n' "$(uname -m)" >metadata.yaml
tar -czf metadata.tar.gz metadata.yaml
incus storage create pool dir; incus profile device add default root disk path=/ pool=pool
incus image import metadata.tar.gz content.tar.gz --alias "$3"
"""


class Incus:
    """The daemon, from the moment that the `with` block begins. With the block ends all that it started."""

    def __init__(self, host: LabHost, root: Path) -> None:
        """`root` is the directory that has the program of the image."""
        self.host = host
        self._root = root
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as failure:
            group = failure.enter_context(ControlGroup())
            self._place = ForeignRoot(self.host, INCUS, [str(self._root)])
            daemon = ["/usr/libexec/incus/incusd", "--group", "root"]
            own = ["unshare", "--mount", "--propagation", "slave", "sh", "-ec", _PIVOT, "sh", self._place.path, *daemon]
            process = Process(self.host.enter(group.start(own)), self.host.directory / "incus.log")
            failure.callback(process.kill)

            def answers() -> bool:
                process.check()
                return self.host.execute(self._place.enter(["incus", "list"])).returncode == 0

            eventually(answers, "Incus answers")
            work = self.host.directory / "incus-image"
            work.mkdir()
            program = f"{self._root}{PAUSE}"
            run(self.host.enter(self._place.enter(["sh", "-ec", _PREPARE, "sh", str(work), program, IMAGE])))
            self._ending = failure.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def incus(self, *arguments: str) -> str:
        """Run the command on this host; return its output or fail with all of it."""
        return run(self.host.enter(self._place.enter(["incus", *arguments]))).strip()

    @property
    def in_shell(self) -> str:
        """The definition of a function by which a shell of the host finds the command."""
        return f'incus() {{ {shlex.join(self._place.enter(["incus"]))} "$@"; }}'
