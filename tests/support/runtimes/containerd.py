"""containerd on a host of the lab, with everything of its own: state, configuration, namespace and control group."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.support.lab.cgroups import ControlGroup
from tests.support.lab.lab import Container, LabHost
from tests.support.lab.processes import Pid, Process, eventually
from tests.support.runtimes import workloads
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

    def __init__(self, host: LabHost, image: Path) -> None:
        """`image` is an archive of the only image that there is."""
        self.host = host
        self._image = image
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as failure:
            self.group = failure.enter_context(ControlGroup())
            config = self.host.directory / "containerd.toml"
            root = self.host.directory / "containerd"
            config.write_text(_CONFIG.format(root=json.dumps(str(root)), image=json.dumps(IMAGE)))
            self.host.run("cp", "/usr/lib/cni/loopback", "/opt/cni/bin")  # without which it starts no pod
            command = self.host.enter(self.group.start(["containerd", "--config", str(config)]))
            daemon = Process(command, self.host.directory / "containerd.log")
            failure.callback(daemon.kill)

            def answers() -> bool:
                daemon.check()
                return self.host.execute(["ctr", "version"]).returncode == 0

            eventually(answers, f"containerd of {self.host.name} answers")
            for namespace in (NAMESPACE, _POD_NAMESPACE):
                self.host.run("ctr", "-n", namespace, "images", "import", str(self._image))
            self._ending = failure.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    @property
    def endpoint(self) -> str:
        """Where this machine reaches its gRPC socket."""
        return f"unix:///proc/{self.host.pid}/root{_SOCKET}"

    def ctr(self, *arguments: str) -> str:
        """Run containerd's command on this host; return its output or fail with all of it."""
        return self.host.run("ctr", "-n", NAMESPACE, *arguments)

    def run(self, name: str, network: str, *options: str) -> Container:
        """Start a container in the background, in the network that the host's first conflist is for."""
        self.ctr(*self._run(name, "--detach", *options))
        return self.found(name, network)

    def run_in_foreground(self, name: str, network: str) -> Container:
        """Start a container whose command lasts as long as it does, and then sends the DEL."""
        command = self.host.enter(self.group.start(["ctr", "-n", NAMESPACE, *self._run(name)]))
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

    def found(self, name: str, network: str) -> Container:
        """Return a running container. For CNI its id has containerd's namespace in front."""
        return workloads.found(self.host, f"{NAMESPACE}-{name}", network, f"/proc/{self._pid(name)}/ns/net")

    def _run(self, name: str, *options: str) -> Sequence[str]:
        return ["run", "--cni", "--cgroup", f"/{self.group.name}/{name}", *options, IMAGE, name, PAUSE]

    def _pid(self, name: str) -> int | None:
        """Return the process of a container that runs."""
        lines = [line.split() for line in self.ctr("task", "list").splitlines()]
        return next((int(pid) for task, pid, state in lines if (task, state) == (name, "RUNNING")), None)
