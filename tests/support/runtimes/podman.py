"""podman on a host of the lab with everything of its own: storage, settings, control group."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.support.lab.cgroups import ControlGroup
from tests.support.lab.lab import Container, LabHost, run
from tests.support.machines.rootfs import PODMAN_4, Rootfs
from tests.support.runtimes import workloads
from tests.support.runtimes.foreign_root import ForeignRoot
from tests.support.runtimes.images import PAUSE

_CONFIG = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"] # a machine may not let them be raised
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "{backend}"
netavark_plugin_dirs = ["/opt/cni/netavark"]
"""

PLUGINS = "/opt/cni/netavark"
"""A directory for netavark's plugins that each host of the lab has for itself."""


class Podman:
    """The command, and a control group for the time of the `with` block. With the block ends all that it started."""

    def __init__(self, host: LabHost, root: Path, release: Rootfs = PODMAN_4, shared: Sequence[str] = ()) -> None:
        """`root` is the directory that every container starts from; none writes to it.

        `release` is the root file system that has podman: `PODMAN_4`, the last one with CNI, or one with netavark.
        `shared` are further directories of the host that it sees.
        """
        self.host = host
        self.root = root
        self.ending = ExitStack()
        self._release = release
        self._shared = [str(root), *shared]

    def __enter__(self) -> Self:
        config = _CONFIG.format(backend="cni" if self._release is PODMAN_4 else "netavark")
        self.host.run("sh", "-ec", 'mkdir -p /etc/containers; echo "$1" >/etc/containers/containers.conf', "", config)
        self.group = self.ending.enter_context(ControlGroup())
        self._program = ForeignRoot(self.host, self._release, self._shared)
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.close()

    @property
    def place(self) -> str:
        """Where the host has podman's root."""
        return self._program.path

    def podman(self, *arguments: str) -> str:
        """Run the command on this host; return its output or fail with all of it."""
        return run(self.enter([*self.command, *arguments]))

    @property
    def command(self) -> list[str]:
        """What begins each of its commands, in its root."""
        places = ["--root", str(self.host.directory / "podman"), "--runroot", "/run/podman", "--storage-driver", "vfs"]
        return ["podman", *places]

    def enter(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one with podman's files, in its control group."""
        return self.host.enter(self.group.start(self._program.enter(command)))

    def run(self, name: str, network: str, *options: str, interface: str = "eth0") -> Container:
        """Start a container in a network."""
        group = ["--cgroup-parent", f"/{self.group.name}"]
        chosen = ["--detach", "--name", name, "--network", network, *group, *options]
        self.podman("run", *chosen, "--rootfs", f"{self.root}:O", PAUSE)
        return self.found(name, network, interface)

    def found(self, name: str, network: str, interface: str = "eth0") -> Container:
        """Return a running container, with the addresses that it has in one of its networks."""
        (shown,) = json.loads(self.podman("inspect", name))
        sandbox = f"/proc/{shown['State']['Pid']}/ns/net"
        return workloads.found(self.host, shown["Id"], network, sandbox, interface)
