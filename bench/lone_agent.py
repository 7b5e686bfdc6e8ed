"""A real agent on a simulated host, with a stub for its controller."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.large_cluster import HERE
from tests.support.lab.lab import CONTROLLER, PORT, Lab, LabHost
from tests.support.lab.processes import Process, eventually


class LoneAgent:
    def __init__(self, lab: Lab, stub: Process) -> None:
        self.host: LabHost = lab.hosts[0]
        self._stub = stub

    @property
    def reports(self) -> list[tuple[float, int]]:
        """The reports of the agent: time on the monotonic clock, and the revision in force."""
        lines = [line.split() for line in self._stub.output.splitlines() if line != "ready"]
        return [(float(moment), int(revision)) for moment, revision in lines]

    def start(self, *options: str) -> Process:
        """Start the agent; return when it has reported that its kernel matches the cluster."""
        before = len(self.reports)
        process = self.host.start_agent("--resync", "30", *options, wait=False)
        eventually(lambda: any(revision for _, revision in self.reports[before:]), "the agent reports", timeout=60)
        return process


@contextmanager
def lone_agent(directory: Path, remotes: int) -> Iterator[LoneAgent]:
    with Lab(directory, hosts=1) as lab:
        (host,) = lab.hosts
        command = [
            sys.executable,
            "-m",
            "bench.stub_controller",
            CONTROLLER,
            str(PORT),
            str(remotes),
            str(host.address),
        ]
        stub = Process(lab.enter_underlay(command), directory / "stub.log")
        try:
            eventually(lambda: stub.output.startswith("ready"), "the stub is ready", timeout=30)
            state = host.directory / "written/var/lib/overlayd"
            state.mkdir(parents=True, exist_ok=True)
            (state / "host-id").write_text(f"{HERE}\n")
            yield LoneAgent(lab, stub)
        finally:
            stub.kill()
