"""A real agent on a simulated host, with a stub for its controller."""

import json
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bench.hosts.large_cluster import HERE, REVISION, UNDERLAY
from controller.identity.authority import Authority
from overlayd.agent.controllers import credential
from overlayd.agent.controllers.credential import Credential
from overlayd.model.cluster import Record
from overlayd.model.host import Host
from overlayd.wire import records
from overlayd.wire.credentials import parse_access_token
from overlayd.wire.feed import Snapshot, encode_line
from tests.support.lab.lab import CONTROLLER, PORT, Lab, LabHost
from tests.support.lab.processes import Process, eventually

_PART = 500
"""Records in a line of the snapshot, as controllers have it."""

_TOKEN = parse_access_token(f"ovt_{'0' * 12}_{'0' * 40}")
PATIENCE = 120.0
"""Seconds that an agent has to put a cluster in force."""


class LoneAgent:
    def __init__(self, lab: Lab, stub: Process, lines: Path) -> None:
        self.host: LabHost = lab.hosts[0]
        self._stub = stub
        self._lines = lines

    @property
    def reports(self) -> list[tuple[float, int]]:
        """The reports of the agent: time on the monotonic clock, and the revision in force."""
        # What stands after the last line feed is a line that is being written.
        complete = self._stub.output.rpartition("\n")[0]
        lines = [line.split() for line in complete.splitlines() if line != "ready"]
        return [(float(moment), int(revision)) for moment, revision in lines]

    @property
    def state(self) -> Path:
        """Where this machine sees the agent's directory of /var/lib."""
        return self.host.directory / "written/var/lib/overlayd"

    def start(self, *options: str) -> Process:
        """Execute the agent; return when it has reported that its kernel matches the cluster."""
        before = len(self.reports)
        process = self.host.start_agent(*options, wait=False)
        self._until(lambda: any(revision for _, revision in self.reports[before:]))
        return process

    def say(self, line: bytes) -> None:
        """Let the controller send a line of its feed."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.connect(str(self._lines))
            channel.sendall(line)

    def hear(self, line: bytes, revision: int) -> None:
        """Do so, and return when the agent has reported its revision."""
        self.say(line)
        self._until(lambda: self.reports[-1][1] >= revision)

    @staticmethod
    def _until(condition: Callable[[], bool]) -> None:
        eventually(condition, "the agent reports", timeout=PATIENCE)


@contextmanager
def lone_agent(directory: Path, known: Iterable[Record]) -> Iterator[LoneAgent]:
    """Make a host whose controller has these records, this host's own among them."""
    with Lab(directory, hosts=1, executed=True) as lab:
        (host,) = lab.hosts
        lab.urls = []  # the agent has them from its credential
        # What the agent sends to remote hosts leaves this one, and gets no answer.
        host.run("ip", "route", "add", str(UNDERLAY), "via", CONTROLLER)
        served = directory / "served"
        served.mkdir()
        _write_cluster(served, list(known))
        command = [sys.executable, "-m", "bench.hosts.stub_controller", str(served), CONTROLLER, str(PORT)]
        stub = Process(lab.enter_underlay(command), directory / "stub.log")
        lone = LoneAgent(lab, stub, served / "lines")
        try:
            _join(lone, served)
            eventually(lambda: stub.output.startswith("ready"), "the stub is ready", timeout=30)
            yield lone
        finally:
            stub.kill()


def _write_cluster(directory: Path, known: list[Record]) -> None:
    """Write what the stub says of the cluster."""
    (here,) = (record for record in known if isinstance(record, Host) and record.id == HERE)
    (directory / "host.json").write_text(json.dumps({**records.encode(here), "revision": REVISION}))
    with (directory / "snapshot").open("wb") as snapshot:
        for part in range(0, len(known), _PART):
            snapshot.write(encode_line(Snapshot(REVISION, tuple(known[part : part + _PART]))))


def _join(lone: LoneAgent, served: Path) -> None:
    """Give the stub a certificate, and the host what it would have got when it joined."""
    now = datetime.now(UTC)
    authority = Authority.create(now)
    issued = authority.issue([], [], now)
    (served / "server.pem").write_text(issued.key + issued.certificate)
    lone.state.mkdir(parents=True, exist_ok=True)
    (lone.state / "host-id").write_text(f"{HERE}\n")
    url = f"https://{CONTROLLER}:{PORT}"
    credential.save(lone.state, Credential((url,), _TOKEN, authority.certificate))
