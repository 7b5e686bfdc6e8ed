"""The parts that the benchmarks of the CNI plugin share: the plugins on one host, and rounds that alternate them."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from bench.plugin_runner import Plugin, Runtime, Times, runtime_on
from bench.report import Report
from cni.install import install_plugin
from tests.support.lab.lab import CommandFailed, Lab, LabHost, plugin_config

PEER = "bridge + host-local"
OURS = ("launcher", "shim")
PEER_PLUGIN = Path("/usr/lib/cni/bridge")
"""From Debian's package containernetworking-plugins."""

MANY = 16

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
    """A host with an agent, a runtime, and the plugins to compare by their names."""

    lab: Lab
    host: LabHost
    runtime: Runtime
    plugins: Mapping[str, Plugin]


@contextmanager
def arena() -> Iterator[Arena]:
    if not PEER_PLUGIN.exists():
        raise CommandFailed("the peer is missing: apt-get install containernetworking-plugins")
    with tempfile.TemporaryDirectory(prefix="overlay-bench-") as name, Lab(Path(name), hosts=1) as lab:
        (host,) = lab.hosts
        lab.start_controller()
        host.start_agent("--resync", "30")
        lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
        bins, config = Path(name) / "shim", Path(name) / "ours.json"
        bins.mkdir()
        config.write_text(json.dumps(plugin_config("blue")))
        peer = Path(name) / "peer.json"
        peer.write_text(json.dumps(_BRIDGE))
        plugins = {
            "launcher": Plugin("/opt/cni/bin/overlayd", str(config)),
            "shim": Plugin(str(install_plugin(bins, interpreted=True)), str(config)),
            PEER: Plugin(str(PEER_PLUGIN), str(peer)),
        }
        with runtime_on(host) as runtime:
            runtime.add_sandboxes([f"{one.split()[0]}-{number}" for one in plugins for number in range(MANY)])
            yield Arena(lab, host, runtime, plugins)


class Rounds:
    """Attaches and detaches with each plugin in turn. Each round starts with a different plugin."""

    def __init__(self, place: Arena, at_once: int) -> None:
        self._arena = place
        self._at_once = at_once
        self._numbers = count()
        self.times: dict[tuple[str, str], list[Times]] = {
            (op, name): [] for op in ("ADD", "DEL") for name in place.plugins
        }

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
                taken = self._arena.runtime.execute(self._arena.plugins[name], command, containers)
                self.times[command, name].append(taken)

    def together(self, command: str, name: str) -> list[float]:
        """Return the time of all executions of each round together."""
        return [times.together for times in self.times[command, name]]


def compare(report: Report, place: Arena, command: str, budgets: Mapping[tuple[str, int], float]) -> None:
    """Compare the plugins in one command, one at a time and many at once."""
    for at_once, runs in ((1, 3 if report.quick else 60), (MANY, 2 if report.quick else 25)):
        rounds = Rounds(place, at_once)
        step = report.step(f"{at_once} at once", runs)
        for _ in range(runs):
            rounds.go()
            report.progress.advance(step)
        how = "one at a time" if at_once == 1 else f"{at_once} at once"
        for name in OURS:
            report.compare(
                f"{command.lower()}/{how}/{name}",
                "ms",
                rounds.together(command, name),
                PEER,
                rounds.together(command, PEER),
                least=budgets.get((name, at_once), 1.0),
                more=False,
            )
