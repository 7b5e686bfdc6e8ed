"""Docker of a release of Debian on a host of the lab, with everything of its own: storage, state, control group."""

import json
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.support.lab.cgroups import ControlGroup
from tests.support.lab.lab import Container, LabHost, run
from tests.support.lab.processes import Process, eventually
from tests.support.machines.rootfs import DOCKER, Rootfs
from tests.support.runtimes import workloads
from tests.support.runtimes.foreign_root import ForeignRoot

IMAGE = "pause:1"

_IMPORT = 'exec tar -C "$1" -c . | docker import --change "ENTRYPOINT [\\"/pause\\"]" - "$2"'

_CONTAINERD = "/run/containerd/containerd.sock"
_CONTAINERD_CONFIG = """\
version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{socket}"
"""

_OPTIONS = (
    f"--containerd={_CONTAINERD}",  # a service of its own, as on a machine with systemd: it outlives Docker
    "--storage-driver=vfs",
    "--exec-opt=native.cgroupdriver=cgroupfs",
    "--default-ulimit=nofile=1024:1024",  # a machine may not let it be raised
    "--userland-proxy=false",
)


class Docker:
    """The daemon, from the moment that the `with` block begins. With the block ends all that it started."""

    def __init__(self, host: LabHost, rootfs: Rootfs, root: Path, options: Sequence[str] = ()) -> None:
        """`root` is the directory of which the only image is made, `options` are further ones of the daemon."""
        self.host = host
        self.release = next(release for release, made in DOCKER.items() if made is rootfs)
        self._rootfs = rootfs
        self._root = root
        self._options = options
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as failure:
            self.group = failure.enter_context(ControlGroup())
            self._place = ForeignRoot(self.host, self._rootfs, [str(self._root)])
            self._start_containerd(failure)
            self.start()
            failure.callback(lambda: self._daemon.kill())  # noqa: PLW0108 - another one after a restart
            self.shell(_IMPORT, str(self._root), IMAGE)
            self._ending = failure.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def _start_containerd(self, ending: ExitStack) -> None:
        config = self.host.directory / "docker-containerd.toml"
        config.write_text(_CONTAINERD_CONFIG.format(root=self.host.directory / "docker-containerd", socket=_CONTAINERD))
        daemon = Process(self.enter(["containerd", "--config", str(config)]), self.host.directory / "containerd.log")
        ending.callback(daemon.kill)

        def listens() -> bool:
            daemon.check()
            return self.host.execute(["test", "-S", _CONTAINERD]).returncode == 0

        eventually(listens, "containerd listens")

    def start(self) -> None:
        """Start the daemon, and wait until it answers."""
        own = [f"--data-root={self.host.directory}/docker", f"--cgroup-parent=/{self.group.name}"]
        command = self.enter(["dockerd", *_OPTIONS, *own, *self._options])
        self._daemon = Process(command, self.host.directory / "docker.log")

        def answers() -> bool:
            self._daemon.check()
            return self.host.execute(self._in_root(["docker", "version"])).returncode == 0

        eventually(answers, "docker answers")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop the daemon, and wait for its end."""
        self._daemon.stop(number)

    def docker(self, *arguments: str) -> str:
        """Run the command on this host; return its output or fail with all of it."""
        return run(self.enter(["docker", *arguments])).strip()

    def compose(self, composed: str, *arguments: str) -> str:
        """Run Docker's compose with a file of this content; return its output or fail with all of it."""
        file = self.host.directory / "compose.yaml"
        file.write_text(composed)
        return run(self.enter(["docker-compose", "--file", str(file), *arguments])).strip()

    def shell(self, script: str, *arguments: str) -> str:
        """Run a script with Docker's files; return its output or fail with all of it."""
        return run(self.enter(["sh", "-ec", script, "sh", *arguments])).strip()

    def enter(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one with Docker's files, in its control group."""
        return self.host.enter(self.group.start(self._in_root(command)))

    def run(self, name: str, network: str, *options: str) -> Container:
        """Start a container in a network."""
        self.docker("run", "--detach", "--name", name, "--network", network, *options, IMAGE)
        return self.found(name, network)

    def found(self, name: str, network: str, interface: str = "eth0") -> Container:
        """Return a running container, with the addresses that it has in one of its networks."""
        (shown,) = json.loads(self.docker("inspect", name))
        sandbox = f"/proc/{shown['State']['Pid']}/ns/net"
        return workloads.found(self.host, shown["Id"], network, sandbox, interface)

    def _in_root(self, command: Sequence[str]) -> list[str]:
        return self._place.enter(command)
