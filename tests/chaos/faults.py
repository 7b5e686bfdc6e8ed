"""What goes wrong: to one host after the other, and to the control plane at the same time."""

import resource
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from tests.chaos.timeline import Timeline
from tests.support.controllers.etcd import EtcdCluster
from tests.support.controllers.processes import ControllerProcess
from tests.support.lab.lab import Lab, LabHost
from tests.support.lab.processes import eventually

REPAIR = 6.0
"""Seconds after which what was deleted by hand is there again."""

_HEAL = 30.0
"""Seconds that a process has to come up on a busy machine."""

_SPARE_DESCRIPTORS = 4


class Actor:
    """Causes one fault after the other, chosen by its seed, until it is stopped; leaves everything as it was."""

    def __init__(self, timeline: Timeline, seed: str, stop: threading.Event) -> None:
        self.timeline = timeline
        self.chance = Random(seed)
        self._stop = stop

    def run(self, harms: Sequence[Callable[[], None]]) -> None:
        """Do every harm in turn, in another order each time round."""
        while True:
            for harm in self.chance.sample(harms, len(harms)):
                if self.wait(0.5, 3.0):
                    return
                harm()

    def wait(self, shortest: float, longest: float) -> bool:
        """Wait for a time; tell whether the run is over."""
        return self._stop.wait(self.chance.uniform(shortest, longest))


class HostFaults(Actor):
    """Harms one host at a time."""

    def __init__(self, timeline: Timeline, seed: str, stop: threading.Event, lab: Lab, networks: Sequence[str]) -> None:
        super().__init__(timeline, f"{seed} hosts", stop)
        self._lab = lab
        self._networks = networks

    def run_all(self) -> None:
        """Cause faults on hosts until it is stopped."""
        self.run(
            (
                self._killed,
                self._stopped,
                self._frozen,
                self._cut_off,
                self._without_descriptors,
                self._without_space,
                self._bereft_of_devices,
                self._bereft_of_entries,
                self._bereft_of_rules,
            )
        )

    def _host(self) -> LabHost:
        return self.chance.choice(self._lab.hosts)

    def _killed(self) -> None:
        self._restarted("agent killed", signal.SIGKILL)

    def _stopped(self) -> None:
        self._restarted("agent stopped", signal.SIGTERM)

    def _restarted(self, kind: str, number: signal.Signals) -> None:
        host = self._host()
        with self.timeline.fault(kind, host.name):
            host.stop_agent(number)
            self.wait(0.1, 4.0)
            host.start_agent(wait=False)

    def _frozen(self) -> None:
        host = self._host()
        assert host.agent is not None
        with self.timeline.fault("agent frozen", host.name):
            host.agent.send(signal.SIGSTOP)
            self.wait(0.5, 10.0)
            host.agent.send(signal.SIGCONT)

    def _cut_off(self) -> None:
        """Let no packet of the underlay come to a host or from it."""
        host = self._host()
        with self.timeline.fault("host cut off", host.name), self.timeline.losing(frozenset({host.name}), 1.0):
            self._lab.underlay_run("ip", "link", "set", f"to-{host.name}", "nomaster")
            self.wait(0.5, 6.0)
            self._lab.underlay_run("ip", "link", "set", f"to-{host.name}", "master", "under0")

    def _without_descriptors(self) -> None:
        host = self._host()
        assert host.agent is not None
        pid = host.agent.pid.number
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        held = max(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()) + _SPARE_DESCRIPTORS
        with self.timeline.fault("agent without descriptors", host.name):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (held, hard))
            self.wait(0.5, 8.0)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))

    def _without_space(self) -> None:
        """Fill the tmpfs of /run, where records, sockets and queued requests are."""
        host = self._host()
        used = int(host.run("df", "--block-size=1024", "--output=used", "/run").split()[-1])
        with self.timeline.fault("host without space in /run", host.name):
            host.run("mount", "-o", f"remount,size={used + 4}k", "/run")
            self.wait(0.5, 8.0)
            host.run("mount", "-o", "remount,size=50%", "/run")

    def _bereft_of_devices(self) -> None:
        """Delete the VXLAN device of a network by hand."""
        host, network = self._host(), self.chance.choice(self._networks)
        with self._repaired(host, network, "vx0 deleted"):
            host.execute(["ip", "-n", f"ov-{network}", "link", "del", "vx0"])

    def _bereft_of_entries(self) -> None:
        """Delete the routes and forwarding entries of a network by hand."""
        host, network = self._host(), self.chance.choice(self._networks)
        with self._repaired(host, network, "routes and entries flushed"):
            for what in (
                ("ip", "-n", f"ov-{network}", "route", "flush", "proto", "118"),
                ("ip", "-n", f"ov-{network}", "-6", "route", "flush", "proto", "118"),
                ("ip", "-n", f"ov-{network}", "neighbour", "flush", "nud", "permanent"),
            ):
                host.execute(what)

    def _bereft_of_rules(self) -> None:
        host = self._host()
        with self.timeline.fault("nft flush ruleset", host.name), self.timeline.losing(frozenset({host.name}), REPAIR):
            host.run("nft", "flush", "ruleset")

    @contextmanager
    def _repaired(self, host: LabHost, network: str, what: str) -> Iterator[None]:
        """Note that something of a network is deleted by hand inside the block, and repaired soon after."""
        hosts, networks = frozenset({host.name}), frozenset({network})
        with (
            self.timeline.fault(what, f"{network} on {host.name}"),
            self.timeline.losing(hosts, REPAIR, networks),
        ):
            yield


class ControlFaults(Actor):
    """Harms controllers and etcd, one thing at a time."""

    def __init__(
        self,
        timeline: Timeline,
        seed: str,
        stop: threading.Event,
        controllers: Sequence[ControllerProcess],
        etcd: EtcdCluster,
    ) -> None:
        super().__init__(timeline, f"{seed} control", stop)
        self._controllers = controllers
        self._etcd = etcd

    def run_all(self) -> None:
        """Cause faults of the control plane until it is stopped."""
        self.run(
            (
                self._controller_killed,
                self._controller_frozen,
                self._controller_cut_off,
                self._all_controllers_killed,
                self._etcd_node_killed,
                self._etcd_node_frozen,
                self._without_quorum,
                self._restored,
            )
        )

    def _controller_killed(self) -> None:
        victim = self.chance.choice(self._controllers)
        with self.timeline.fault("controller killed", victim.name):
            victim.stop(signal.SIGKILL)
            self.wait(0.2, 5.0)
            victim.launch()

    def _all_controllers_killed(self) -> None:
        with self.timeline.fault("controllers killed", "all"):
            for victim in self._controllers:
                victim.stop(signal.SIGKILL)
            self.wait(0.5, 6.0)
            for victim in self._controllers:
                victim.launch()
            for victim in self._controllers:
                victim.await_ready()

    def _controller_frozen(self) -> None:
        victim = self.chance.choice(self._controllers)
        with self.timeline.fault("controller frozen", victim.name):
            victim.freeze()
            self.wait(1.0, 12.0)
            victim.thaw()

    def _controller_cut_off(self) -> None:
        victim = self.chance.choice(self._controllers[1:])  # the first one's address is the underlay's own
        with self.timeline.fault("controller cut off", victim.name):
            victim.cut_off()
            self.wait(1.0, 10.0)
            victim.join_again()

    def _etcd_node_killed(self) -> None:
        self._etcd_killed("etcd node killed", 1)

    def _without_quorum(self) -> None:
        self._etcd_killed("etcd without quorum", 2)

    def _etcd_killed(self, kind: str, number: int) -> None:
        victims = self.chance.sample(range(len(self._etcd.nodes)), number)
        with self.timeline.fault(kind, ", ".join(map(str, victims))):
            for victim in victims:
                self._etcd.kill(victim)
            self.wait(0.5, 6.0)
            for victim in victims:
                self._etcd.launch(victim)
            self._etcd.await_health()

    def _restored(self) -> None:
        """Put an older state of the store under running controllers and agents."""
        with TemporaryDirectory(prefix="overlayd-chaos-") as directory:
            snapshot = Path(directory) / "snapshot"
            self._etcd.save(snapshot)
            self.wait(2.0, 8.0)
            with self.timeline.fault("older state of etcd restored", "all nodes"):
                for index in self._etcd.running:
                    self._etcd.kill(index)
                self._etcd.restore(snapshot)
                for index in range(len(self._etcd.nodes)):
                    self._etcd.launch(index)
                self._etcd.await_health()

    def _etcd_node_frozen(self) -> None:
        (victim,) = self.chance.sample(range(len(self._etcd.nodes)), 1)
        with self.timeline.fault("etcd node frozen", str(victim)):
            self._etcd.freeze(victim)
            self.wait(1.0, 8.0)
            self._etcd.thaw(victim)
            self._etcd.await_health()


def heal(lab: Lab, etcd: EtcdCluster) -> None:
    """Wait until every process is up again, and each agent is in sync; raise `NotInTime`."""
    etcd.await_health()
    for controller in lab.controllers:
        controller.await_ready()
    for host in lab.hosts:
        eventually(lambda: _is_in_sync(host), f"{host.name} is in sync", timeout=_HEAL)  # noqa: B023 - used at once


def _is_in_sync(host: LabHost) -> bool:
    assert host.agent is not None
    host.agent.check()
    status = host.agent_status()
    return status is not None and bool(status["in_sync"])
