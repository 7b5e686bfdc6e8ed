"""A container runtime for benchmarks, which only executes CNI plugins and measures their time.

`Runtime` starts a process that has entered the simulated host once, so that an execution costs no more than the plugin
itself. It sends requests to that process and receives results as lines of JSON.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.spaces import namespaces
from tests.support.lab.lab import LabHost

_FILES = Path("/run/bench")


@dataclass(frozen=True, slots=True)
class Plugin:
    """The executable of a plugin, and the file with the network's configuration."""

    path: str
    config: str


@dataclass(frozen=True, slots=True)
class Cost:
    """The milliseconds until the last of several executions had ended, and those of processor time of them all."""

    taken: float
    processor: float


class Runtime:
    """Creates sandboxes and executes plugins for them."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def add_sandboxes(self, names: Sequence[str]) -> None:
        self._ask({"do": "sandboxes", "names": names})

    def execute(self, plugin: Plugin, command: str, containers: Mapping[str, str]) -> Cost:
        """Execute a command for all containers at the same time. `containers` maps container ids to sandboxes."""
        answer = self._ask({"do": "execute", "plugin": asdict(plugin), "command": command, "containers": containers})
        return Cost(answer["taken"], answer["processor"])

    def execute_all(self, plugin: Plugin, command: str, containers: Mapping[str, str], at_once: int) -> None:
        """Execute a command for containers, `at_once` at a time; return when the last one has ended."""
        about = {"plugin": asdict(plugin), "command": command, "containers": containers, "at_once": at_once}
        self._ask({"do": "execute all", **about})

    def _ask(self, request: Mapping[str, object]) -> dict[str, float]:
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("the runtime has no pipes")
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise ChildProcessError("the runtime ended: its errors are above")
        found: dict[str, float] = json.loads(answer)
        return found


@contextmanager
def runtime_on(host: LabHost) -> Iterator[Runtime]:
    command = host.enter([sys.executable, "-m", "bench.hosts.plugin_runner"])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Runtime(process)
        finally:
            process.kill()


def _serve() -> None:
    _FILES.mkdir()
    for line in sys.stdin:
        print(json.dumps(_done(json.loads(line))), flush=True)


def _done(request: dict[str, object]) -> dict[str, float]:
    match request:
        case {"do": "sandboxes", "names": list(names)}:
            for name in names:
                namespaces.create(NamespaceRef(f"/run/netns/{name}"))
            return {}
        case {"do": "execute", "plugin": dict(plugin), "command": str(command), "containers": dict(containers)}:
            started = time.perf_counter()
            for container in containers.items():
                _start(plugin, command, *container)
            used = sum(_ended() for _ in containers)
            return {"taken": 1e3 * (time.perf_counter() - started), "processor": 1e3 * used}
        case {"do": "execute all", "plugin": dict(plugin), "command": str(command), "containers": dict(containers)}:
            at_once = int(str(request["at_once"]))
            for number, container in enumerate(containers.items()):
                if number >= at_once:
                    _ended()
                _start(plugin, command, *container)
            for _ in range(min(at_once, len(containers))):
                _ended()
            return {}
        case _:
            raise ValueError(f"unknown request: {request}")


def _start(plugin: Mapping[str, str], command: str, container: str, sandbox: str) -> None:
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": f"/run/netns/{sandbox}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(Path(plugin["path"]).parent),
        "PATH": os.defpath,
    }
    files = [
        (os.POSIX_SPAWN_OPEN, 0, plugin["config"], os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(_FILES / "answer"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
    ]
    os.posix_spawn(plugin["path"], [plugin["path"]], environment, file_actions=files)


def _ended() -> float:
    """Wait until a plugin ends; return the processor seconds that it used, with those that it executed."""
    _, status, used = os.wait3(0)
    if status:
        raise ChildProcessError(f"a plugin failed: {(_FILES / 'answer').read_text()[-1000:]}")
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    _serve()
