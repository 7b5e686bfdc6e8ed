"""One run of the chaos: hosts with working containers, random faults, and a check of the final state."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import combinations
from pathlib import Path

from overlayd.model.address import overlap
from tests.chaos.faults import ControlFaults, HostFaults, heal
from tests.chaos.timeline import Timeline
from tests.chaos.workload import Churn, Ledger, Way, pinging, ring, streaming
from tests.support.controllers.etcd import EtcdCluster
from tests.support.lab.lab import Container, Lab
from tests.support.lab.processes import NotInTime, eventually

HOSTS = 3
CONTROLLERS = 2

NETWORKS = {
    "blue": ("--range", "10.32.0.0/16", "--range", "fd00:32::/48", "--block-length", "28"),
    "red": ("--range", "10.32.0.0/16", "--uplink", "isolated"),
    "green": ("--range", "10.64.0.0/16", "--topology", "switched"),
}
"""Two of them have the same addresses; blocks of one are small, so that it grows."""

_QUIET = 60.0
"""Seconds in which everything comes to rest after the last fault."""


@dataclass(frozen=True, slots=True)
class Options:
    """For how many seconds, with which seed, and where logs go."""

    seconds: float
    seed: str
    directory: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened, and everything that was not as it must be."""

    faults: Counter[str]
    done: Counter[str]
    violations: tuple[str, ...]
    timeline: str


def chaos(options: Options, say: Callable[[str], None]) -> Outcome:
    """Run to the end and judge; everything that was started ends with it. `say` gets a line for each step."""
    with ExitStack() as stack:
        # Before all else, to end after all else: what a thread has started ends with that thread (prctl(2), PDEATHSIG).
        threads = stack.enter_context(ThreadPoolExecutor(HOSTS + 2))
        say("starting etcd, controllers and hosts")
        lab = stack.enter_context(Lab(options.directory / "lab", hosts=HOSTS))
        etcd = stack.enter_context(EtcdCluster(3, inside=Path(f"/proc/{lab.underlay.pid.number}/ns/net")))
        lab.start_controllers(*[etcd.url] * CONTROLLERS)
        for host in lab.hosts:
            host.start_agent()
        for name, settings in NETWORKS.items():
            lab.overlayctl("network", "create", name, *settings)
        staying = {name: [host.attach(f"{name}-{host.name}", name) for host in lab.hosts] for name in NETWORKS}
        lab.in_force(*(container for containers in staying.values() for container in containers))
        timeline = Timeline()
        ways = [way for containers in staying.values() for way in ring(containers)]
        ledger = Ledger(timeline)
        for containers in staying.values():
            for container in containers:
                ledger.came(container)
        churns = [
            Churn(host, {name: staying[name][index] for name in NETWORKS}, ledger, timeline, options.seed)
            for index, host in enumerate(lab.hosts)
        ]
        say(f"{len(ways)} ways are pinged, things go wrong for {options.seconds:.0f} s")
        with (
            pinging(ways, timeline, options.directory),
            streaming(_one_each(ways), timeline, options.directory),
        ):
            harms = (
                HostFaults(timeline, options.seed, stop := threading.Event(), lab, sorted(NETWORKS)).run_all,
                ControlFaults(timeline, options.seed, stop, lab.controllers, etcd).run_all,
            )
            _live(threads, harms, stop, churns, options.seconds)
            say("everything is healed, and looked at")
            with _judging(timeline):
                heal(lab, etcd)
                _look(lab, staying, churns, timeline)
        with _judging(timeline):
            _leave(lab, staying, churns, timeline)
        _read_logs(options.directory / "lab", timeline)
    done = sum((churn.tally for churn in churns), Counter[str]())
    return Outcome(timeline.faults, done, tuple(timeline.violations), timeline.report())


def _one_each(ways: list[Way]) -> list[Way]:
    """Return the first way of each network."""
    return list({way.source.network: way for way in reversed(ways)}.values())


def _live(
    threads: ThreadPoolExecutor,
    harms: Iterable[Callable[[], None]],
    stop: threading.Event,
    churns: list[Churn],
    seconds: float,
) -> None:
    """Let containers come and go and things go wrong for so long; what failed in there is raised at the end."""
    stop_churns = threading.Event()
    harming = [threads.submit(harm) for harm in harms]
    living = [threads.submit(churn.run, stop_churns) for churn in churns]
    try:
        _first_failure([*harming, *living], seconds)
    finally:  # also when a person interrupts it: the threads would go on for ever
        stop.set()
        wait(harming)
        stop_churns.set()
        wait(living)
    for ended in (*harming, *living):
        ended.result()


def _first_failure(running: list[Future[None]], seconds: float) -> None:
    """Wait for a time, or until one of these has ended, which it does by failing only."""
    ended = threading.Event()
    for each in running:
        each.add_done_callback(lambda _: ended.set())
    ended.wait(seconds)


@contextmanager
def _judging(timeline: Timeline) -> Iterator[None]:
    """Count it as a violation when something does not come to rest in time."""
    try:
        yield
    except NotInTime as late:
        timeline.violate(str(late))


def _look(lab: Lab, staying: dict[str, list[Container]], churns: list[Churn], timeline: Timeline) -> None:
    """See that everything is known, in force and reached from everywhere, and that nothing belongs to two."""
    for name, containers in staying.items():
        living = [each for churn in churns for each in churn.live if each.network == name]
        names = {container.name for container in (*containers, *living)}
        eventually(lambda: lab.published(name) == names, f"{names} alone are published in {name}", _QUIET)  # noqa: B023
        eventually(lambda: _is_in_force(lab, name), f"{name} is in force everywhere", _QUIET)  # noqa: B023
        for source in containers:
            for target in living:
                if not any(source.ping(target.address, wait=1.0) for _ in range(3)):
                    timeline.violate(f"{source.name} does not reach {target.name} at {target.address}")
    for network in NETWORKS:
        blocks = lab.controllers[0].request("GET", f"/v1/blocks?limit=1000&network={network}").json()["items"]
        for one, other in combinations(blocks, 2):
            if overlap(ip_network(one["cidr"]), ip_network(other["cidr"])):
                timeline.violate(f"two hosts have blocks that overlap: {one} and {other}")


def _is_in_force(lab: Lab, network: str) -> bool:
    found = lab.controllers[0].request("GET", f"/v1/convergence?network={network}")
    return found.is_success and found.json()["in_force"] == found.json()["total"] > 0


def _leave(lab: Lab, staying: dict[str, list[Container]], churns: list[Churn], timeline: Timeline) -> None:
    """Detach everything, and see that nothing is left."""
    for churn in churns:
        churn.end()
    for name, containers in staying.items():
        for container in containers:
            if (deleted := container.host.detach(container)).status:
                timeline.violate(f"DEL of {container.name} failed: {deleted.stdout}")
        eventually(lambda: not lab.published(name), f"nothing is published in {name}", _QUIET)  # noqa: B023
    for host in lab.hosts:
        left = host.run("ls", "/run/overlayd/attachments").split()
        if left:
            timeline.violate(f"{host.name} keeps records of containers that are gone: {left}")
        for name in NETWORKS:
            eventually(lambda: not _veths(host, name), f"no container's device is left in {name}", _QUIET)  # noqa: B023


def _veths(host: object, network: str) -> list[str]:
    listed = host.execute(["ip", "-n", f"ov-{network}", "-o", "link"]).stdout  # type: ignore[attr-defined]
    return [line for line in listed.splitlines() if ": ve" in line or ": rv" in line]


def _read_logs(directory: Path, timeline: Timeline) -> None:
    """Look for defects in what agents and controllers have logged."""
    for log in (*directory.glob("*.log"), *directory.glob("*/agent.log")):
        found = [line for line in log.read_text(errors="replace").splitlines() if "Traceback" in line]
        if found:  # its end says what happened
            timeline.violate(f"{log.relative_to(directory)} has {len(found)} tracebacks: …{found[0][-1500:]}")
