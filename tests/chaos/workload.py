"""The work that must go on during faults: pings, TCP connections, and containers that come and go."""

import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from random import Random

from overlayd.model.address import IpAddress
from tests.chaos.timeline import Timeline
from tests.support.lab.lab import CommandFailed, Container, LabHost, plugin_config
from tests.support.lab.processes import Process
from tests.support.packets.ping_stream import Pinging

_PING_EVERY = 0.02
"""Seconds."""

_ANSWER = re.compile(r"^\[(\d+\.\d+)\].*icmp_seq=(\d+) (?:ttl|hlim)=", re.MULTILINE)

_AT_ONCE = 5
"""How many containers of one host live at the same time."""

_CALM = 20.0
"""Seconds without a fault after which an attachment must succeed."""

_PASSING = frozenset({11, 50, 51})
"""The error of an attachment that may succeed later (CNI SPEC, section "Error"; docs/cni.md)."""

_WITHOUT_SPACE = 5


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """From one container to another in one network, at one of its addresses."""

    source: Container
    target: Container
    address: IpAddress

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset({self.source.host.name, self.target.host.name})

    def __str__(self) -> str:
        return f"{self.source.name} -> {self.target.name} ({self.address})"


def ring(containers: Sequence[Container]) -> Iterator[Way]:
    """Yield the ways from each container of one network to the next one, at each of its addresses."""
    for source, target in pairwise((*containers, containers[0])):
        for address in target.addresses:
            yield Way(source, target, address)


@contextmanager
def pinging(ways: Sequence[Way], timeline: Timeline, directory: Path) -> Iterator[None]:
    """Ping on all ways inside the block; every ping that is lost without an excuse is a violation."""
    with ExitStack() as stack:
        logs = {way: directory / f"ping-{number}" for number, way in enumerate(ways)}
        for way, log in logs.items():
            stack.enter_context(Pinging(way.source, way.address, log, _PING_EVERY))
        yield
    for way, log in logs.items():
        _judge(way, log.read_text(errors="replace"), timeline)


def _judge(way: Way, output: str, timeline: Timeline) -> None:
    answers = [(int(number), float(moment)) for moment, number in _ANSWER.findall(output)]
    lost = 0
    for (before, earlier), (after, later) in pairwise(answers):
        for number in range(before + 1, after):
            moment = earlier + (later - earlier) * (number - before) / (after - before)
            if not timeline.excuses(moment, way.hosts, way.source.network):
                lost += 1
                if lost == 1:
                    timeline.violate(f"ping {number} of {way} was lost at {moment - timeline.started:.2f}")
    if lost > 1:
        timeline.violate(f"{lost} pings of {way} were lost without an excuse")


@contextmanager
def streaming(ways: Sequence[Way], timeline: Timeline, directory: Path) -> Iterator[None]:
    """Keep a TCP connection open on each way inside the block; one that ends is a violation."""
    command = [sys.executable, "-m", "tests.chaos.stream"]
    with ExitStack() as stack:
        senders = {}
        for number, way in enumerate(ways):
            server = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *way.target.enter([*command, "serve", str(way.address)])],
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(_end, server)
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            sender = Process(way.source.enter([*command, "send", str(way.address), port]), directory / f"tcp-{number}")
            stack.callback(sender.kill)
            senders[way] = sender
        yield
        for way, sender in senders.items():
            status = sender.stop()
            if status or not int(sender.output or "0"):
                timeline.violate(f"the TCP connection of {way} did not last: {sender.output.strip()}")


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


class Ledger:
    """Which container has which address, in the whole cluster: from its ADD to the beginning of its DEL."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._owners: dict[tuple[str, IpAddress], str] = {}
        self._lock = threading.Lock()

    def came(self, container: Container) -> None:
        """Note what an ADD gave; that another container has it is a violation."""
        with self._lock:
            for address in container.addresses:
                owner = self._owners.setdefault((container.network, address), container.name)
                if owner != container.name:
                    self._timeline.violate(f"{container.name} was given {address}, which {owner} has")

    def goes(self, container: Container) -> None:
        """Note that a DEL begins."""
        with self._lock:
            for address in container.addresses:
                if self._owners.get((container.network, address)) == container.name:
                    del self._owners[container.network, address]


class Churn:
    """Attaches and detaches containers of one host, as a runtime does, until it is stopped."""

    def __init__(
        self, host: LabHost, neighbours: Mapping[str, Container], ledger: Ledger, timeline: Timeline, seed: str
    ) -> None:
        """`neighbours` are containers of this host that stay, one in each network."""
        self.host = host
        self.live: list[Container] = []
        self.tally: Counter[str] = Counter()
        self._neighbours = neighbours
        self._ledger = ledger
        self._timeline = timeline
        self._chance = Random(f"{seed} {host.name}")
        self._numbers = count(1)

    def run(self, stop: threading.Event) -> None:
        """Do something now and then."""
        while not stop.wait(self._chance.uniform(0.05, 0.6)):
            if len(self.live) < _AT_ONCE and self._chance.random() < 0.6:
                self.attach(self._chance.choice(sorted(self._neighbours)))
            elif self.live:
                self.detach(self._chance.choice(self.live))

    def attach(self, network: str) -> None:
        """Make a sandbox and attach it; what failed is detached and removed, as a runtime does."""
        name = f"{self.host.name}-{next(self._numbers)}"
        try:
            self.host.add_sandbox(name)
        except CommandFailed:
            self.tally["sandbox not made"] += 1  # /run is full
            return
        was_calm = self._is_calm()
        variables = {"CONTAINERID": name, "NETNS": f"/run/netns/{name}", "IFNAME": "eth0"}
        added = self.host.cni("ADD", plugin_config(network), **variables)
        if added.status:
            self._refused(name, network, added.stdout, was_calm=was_calm)
            self._delete(network, name)
            return
        container = Container(self.host, name, network, "eth0", added.json)
        self._ledger.came(container)
        self.live.append(container)
        self.tally["attached"] += 1
        self._timeline.note(f"{name} is attached to {network}: {', '.join(map(str, container.addresses))}")
        neighbour = self._neighbours[network]
        if not any(container.ping(neighbour.address, wait=1.0) for _ in range(3)):
            self._unreachable(container, neighbour)

    def detach(self, container: Container) -> None:
        """Detach a container, twice now and then, and remove its sandbox."""
        self.live.remove(container)
        self._ledger.goes(container)
        self._timeline.note(f"{container.name} is being detached")
        for _ in range(self._chance.choice((1, 1, 1, 2))):
            self._delete(container.network, container.name)
        self.tally["detached"] += 1

    def end(self) -> None:
        """Detach what is left."""
        for container in list(self.live):
            self.detach(container)

    def _delete(self, network: str, name: str) -> None:
        deleted = self.host.cni(
            "DEL", plugin_config(network), CONTAINERID=name, NETNS=f"/run/netns/{name}", IFNAME="eth0"
        )
        if deleted.status:
            self._timeline.violate(f"DEL of {name} failed: {deleted.stdout or deleted.stderr}")
        self.host.execute(["ip", "netns", "delete", name])

    def _refused(self, name: str, network: str, said: str, *, was_calm: bool) -> None:
        found = re.search(r'"code": ?(\d+)', said)
        code = int(found[1]) if found else None
        self.tally[f"refused with code {code}"] += 1
        self._timeline.note(f"ADD of {name} to {network} was refused: {said.strip()}")
        if code not in _PASSING and code != _WITHOUT_SPACE:
            self._timeline.violate(f"ADD of {name} failed with code {code}: {said.strip()}")
        elif was_calm and self._is_calm():
            self._timeline.violate(f"ADD of {name} was refused although nothing is wrong: {said.strip()}")

    def _unreachable(self, container: Container, neighbour: Container) -> None:
        now = self._timeline.moment()
        if not self._timeline.excuses_now(frozenset({self.host.name}), container.network):
            self._timeline.violate(
                f"{container.name} does not reach {neighbour.name} on the same host ({now:.2f} s after the beginning)"
            )

    def _is_calm(self) -> bool:
        return self._timeline.moment() - self._timeline.last_fault > _CALM
