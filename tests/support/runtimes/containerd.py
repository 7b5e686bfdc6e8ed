"""containerd on a host of the lab, with everything of its own: state, configuration, namespace and control group."""

import json
import signal
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.support.lab.cgroups import ControlGroup
from tests.support.lab.lab import Container, LabHost, run
from tests.support.lab.processes import Pid, Process, eventually
from tests.support.machines.rootfs import Rootfs
from tests.support.runtimes import workloads
from tests.support.runtimes.foreign_root import ForeignRoot
from tests.support.runtimes.images import IMAGE, PAUSE

NAMESPACE = "lab"
"""containerd's, of the containers that `ctr` starts."""

_POD_NAMESPACE = "k8s.io"
_SOCKET = "/run/containerd/containerd.sock"
_CONFIG = """\
version = 2
root = {root}
state = "/run/containerd"
disabled_plugins = [
    "io.containerd.internal.v1.opt",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
]
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true # a machine may lack the right to make it smaller
sandbox_image = {image}
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin" # Debian's 1.7 has another default
"""


class Containerd:
    """The daemon, from the moment that the `with` block begins. With the block ends all that it started."""

    def __init__(self, host: LabHost, image: Path, release: Rootfs | None = None) -> None:
        """`image` is an archive of the only image that there is.

        `release` is the root file system that has containerd, None for that of this machine.
        """
        self.host = host
        self._image = image
        self._release = release
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as failure:
            self.group = failure.enter_context(ControlGroup())
            self._place = self._release and ForeignRoot(self.host, self._release, [str(self._image.parent)])
            run(self._enter(["touch", "/etc/hosts"]))  # a copy of it is every pod's; Debian's installer makes it
            root = self.host.directory / "containerd"
            self._config.write_text(_CONFIG.format(root=json.dumps(str(root)), image=json.dumps(IMAGE)))
            self.host.run("cp", "/usr/lib/cni/loopback", "/opt/cni/bin")  # without which it starts no pod
            self.start()
            failure.callback(lambda: self._daemon.kill())  # noqa: PLW0108 - another one after a restart
            for namespace in (NAMESPACE, _POD_NAMESPACE):
                run(self._enter(["ctr", "-n", namespace, "images", "import", str(self._image)]))
            self._ending = failure.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def start(self) -> None:
        """Start the daemon, and wait until it answers."""
        command = self._enter(["containerd", "--config", str(self._config)])
        self._daemon = Process(command, self.host.directory / "containerd.log")

        def answers() -> bool:
            self._daemon.check()
            return subprocess.run(self._enter(["ctr", "version"]), capture_output=True, check=False).returncode == 0

        eventually(answers, f"containerd of {self.host.name} answers")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop the daemon, and wait for its end; containers go on."""
        self._daemon.stop(number)

    @property
    def _config(self) -> Path:
        return self.host.directory / "containerd.toml"

    def _enter(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one with containerd's files, in its control group."""
        return self.host.enter(self.group.start(self._place.enter(command) if self._place else command))

    @property
    def version(self) -> str:
        """The number of its release."""
        return run(self._enter(["containerd", "--version"])).split()[2].removeprefix("v")

    @property
    def endpoint(self) -> str:
        """Where this machine reaches its gRPC socket."""
        return f"unix:///proc/{self.host.pid}/root{_SOCKET}"

    def ctr(self, *arguments: str) -> str:
        """Run containerd's command on this host; return its output or fail with all of it."""
        return run(self._enter(["ctr", "-n", NAMESPACE, *arguments]))

    def run(self, name: str, network: str, *options: str) -> Container:
        """Start a container in the background, in the network that the host's first conflist is for."""
        self.ctr(*self._run(name, "--detach", *options))
        return self.found(name, network)

    def run_in_foreground(self, name: str, network: str) -> Container:
        """Start a container whose command lasts as long as it does, and then sends the DEL."""
        command = self._enter(["ctr", "-n", NAMESPACE, *self._run(name)])
        process = Process(command, self.host.directory / f"{name}.log")
        self._ending.callback(process.kill)

        def runs() -> bool:
            process.check()
            return self._pid(name) is not None

        eventually(runs, f"container {name} runs")
        return self.found(name, network)

    def run_beside(self, name: str, other: Container) -> Container:
        """Start a container in the sandbox of another one, without asking CNI for anything."""
        options = ["--detach", "--with-ns", f"network:{other.sandbox}", "--cgroup", f"/{self.group.name}/{name}"]
        self.ctr("run", *options, IMAGE, name, PAUSE)
        return self.found(name, other.network)

    def kill(self, name: str) -> None:
        """Kill the process of a container from outside, so that no DEL is sent; `ctr task kill` sends one since 1.7."""
        pid = self._pid(name)
        assert pid is not None
        Pid.of(pid).end()

    def remove(self, name: str) -> None:
        """Remove a container, whatever is left of it."""
        if name in self.ctr("task", "list", "--quiet").split():
            self.ctr("task", "remove", "--force", name)
        if name in self.ctr("container", "list", "--quiet").split():
            self.ctr("container", "remove", name)

    def found(self, name: str, network: str) -> Container:
        """Return a running container. For CNI its id has containerd's namespace in front."""
        return workloads.found(self.host, f"{NAMESPACE}-{name}", network, f"/proc/{self._pid(name)}/ns/net")

    def _run(self, name: str, *options: str) -> Sequence[str]:
        return ["run", "--cni", "--cgroup", f"/{self.group.name}/{name}", *options, IMAGE, name, PAUSE]

    def _pid(self, name: str) -> int | None:
        """Return the process of a container that runs."""
        lines = [line.split() for line in self.ctr("task", "list").splitlines()]
        return next((int(pid) for task, pid, state in lines if (task, state) == (name, "RUNNING")), None)
