"""The parts that the benchmarks of the CNI plugin share: the plugins on one host, and rounds that alternate them."""

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx

from bench.hosts.administration import administrator
from bench.hosts.plugin_runner import Plugin, Runtime, runtime_on
from bench.hosts.process_costs import processor_seconds, until_quiet
from bench.reporting.report import Report
from cni.install import install_plugin
from tests.support.lab.lab import CommandFailed, Lab, LabHost, plugin_config
from tests.support.lab.processes import Process

PEER = "bridge + host-local"
OURS = ("launcher", "shim")
PEER_PLUGIN = Path("/usr/lib/cni/bridge")
"""From Debian's package containernetworking-plugins."""

MANY = 16

NETWORK = "blue"

_BRIDGE = {
    "cniVersion": "1.0.0",
    "name": "peer",
    "type": "bridge",
    "bridge": "cni0",
    "isDefaultGateway": True,
    "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "10.88.0.0/16"}]],
        "dataDir": "/run/host-local",  # on a tmpfs, as our records are
    },
}


@dataclass(frozen=True, slots=True)
class Arena:
    """A host with an agent and a runtime, and the plugins to compare, each under its name."""

    host: LabHost
    runtime: Runtime
    agent: Process
    controller: Process
    plugins: Mapping[str, Plugin]
    api: httpx.Client

    @property
    def daemons(self) -> list[int]:
        """The process ids of the agent and of the controller."""
        return [self.agent.pid.number, self.controller.pid.number]

    @property
    def processor(self) -> float:
        """The seconds of processor time that agent and controller have used."""
        return sum(map(processor_seconds, self.daemons))

    def until_published(self, containers: AbstractSet[str]) -> None:
        """Return when the controller knows these containers of the network and no other ones."""
        while self._published() != containers:
            time.sleep(0.005)

    def _published(self) -> set[str]:
        answer = self.api.get("/v1/endpoints", params={"network": NETWORK}).raise_for_status()
        return {endpoint["container_id"] for endpoint in answer.json()["items"]}

    def settle(self, containers: AbstractSet[str]) -> float:
        """Return when all that follows an answer is done: publication, the report, and the deletion of devices.

        Otherwise it would go on while the next plugin, which may be the peer's, is measured. What is returned is the
        processor time that the daemons have used until then; the question about it is not in it.
        """
        while True:
            used = until_quiet(self.daemons)
            if self._published() == containers:
                return used


@contextmanager
def arena() -> Iterator[Arena]:
    if not PEER_PLUGIN.exists():
        raise CommandFailed("the peer is missing: apt-get install containernetworking-plugins")
    with (
        tempfile.TemporaryDirectory(prefix="overlay-bench-") as name,
        Lab(Path(name), hosts=1, secure=True, executed=True) as lab,
    ):
        (host,) = lab.hosts
        controller = lab.start_controller()
        agent = host.start_agent()
        lab.overlayctl("network", "create", NETWORK, "--range", "10.32.0.0/16")
        bins, config = Path(name) / "shim", Path(name) / "ours.json"
        bins.mkdir()
        config.write_text(json.dumps(plugin_config(NETWORK)))
        peer = Path(name) / "peer.json"
        peer.write_text(json.dumps(_BRIDGE))
        plugins = {
            "launcher": Plugin("/opt/cni/bin/overlayd", str(config)),
            "shim": Plugin(str(install_plugin(bins, interpreted=True)), str(config)),
            PEER: Plugin(str(PEER_PLUGIN), str(peer)),
        }
        with runtime_on(host) as runtime, administrator(lab) as api:
            runtime.add_sandboxes([f"{one.split()[0]}-{number}" for one in plugins for number in range(MANY)])
            yield Arena(host, runtime, agent, controller, plugins, api)


class Rounds:
    """Attaches and detaches with each plugin in turn. Each round starts with a different plugin."""

    def __init__(self, place: Arena, at_once: int) -> None:
        self._arena = place
        self._at_once = at_once
        self._numbers = count()
        self.taken: dict[tuple[str, str], list[float]] = defaultdict(list)
        """The milliseconds of each round, by command and plugin."""

        self.processor: dict[tuple[str, str], list[float]] = defaultdict(list)
        """The milliseconds of processor time of each execution, with what daemons did for it until they were done."""

    def go(self) -> None:
        number = next(self._numbers)
        names = list(self._arena.plugins)
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            containers = {
                f"{name.split()[0]}-{self._at_once}-{number}-{each}": f"{name.split()[0]}-{each}"
                for each in range(self._at_once)
            }
            for command in ("ADD", "DEL"):
                self._execute(command, name, containers)

    def _execute(self, command: str, name: str, containers: Mapping[str, str]) -> None:
        before = self._arena.processor
        cost = self._arena.runtime.execute(self._arena.plugins[name], command, containers)
        used = cost.processor
        if name in OURS:
            after = self._arena.settle(containers.keys() if command == "ADD" else frozenset())
            used += 1e3 * (after - before)
        self.taken[command, name].append(cost.taken)
        self.processor[command, name].append(used / self._at_once)


def compare(report: Report, place: Arena, command: str, rounds_of: Mapping[int, int]) -> None:
    """Compare the plugins in one command, with so many rounds of one at a time and of many at once."""
    for at_once, wanted in rounds_of.items():
        runs = 2 if report.quick else wanted
        rounds = Rounds(place, at_once)
        step = report.step(f"{at_once} at once", runs)
        for _ in range(runs):
            rounds.go()
            report.progress.advance(step)
        how = "one at a time" if at_once == 1 else f"{at_once} at once"
        for name in OURS:
            for what, found in (("", rounds.taken), ("/processor time of each", rounds.processor)):
                ours, peer = found[command, name], found[command, PEER]
                report.compare(f"{how}/{name}{what}", "ms", ours, PEER, peer, more=False)
