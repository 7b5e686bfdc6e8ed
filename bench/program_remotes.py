"""The time to program 1,000 to 20,000 remote hosts into an empty network; against ip -batch and bridge -batch.

Both start from what is ready: the agent's kernel part from a plan, its peer from files. What comes before the plan is
in the case `resolve, observe, diff and apply`.
"""

import tempfile
import time
from collections.abc import Callable
from ipaddress import IPv4Interface
from pathlib import Path

from bench.hosts.large_cluster import NETWORK, large_cluster, site
from bench.reporting.report import Report
from overlayd.agent.daemon import collect_later
from overlayd.dataplane import ownership
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import FdbEntry, Neighbour, Route, State, network_namespace
from overlayd.dataplane.plan import Add, Plan
from overlayd.model.cluster import Cluster
from tests.support.kernel.hosted_kernel import HostedKernel, SimulatedHost

OWN = IPv4Interface("172.16.0.1/12")
NS = network_namespace(NETWORK.name)


async def measure(report: Report) -> None:
    collect_later()  # as an agent that starts
    for remotes, runs in {1_000: 9, 5_000: 5, 20_000: 3}.items():
        _measure(report, f"{remotes} remotes", *((remotes // 50, 1) if report.quick else (remotes, runs)))


def _measure(report: Report, name: str, remotes: int, runs: int) -> None:
    with SimulatedHost(OWN) as host:
        kernel = HostedKernel(host)
        alone = resolve(large_cluster(0, OWN.ip), site(), [])
        ours, like, without, whole = list[float](), list[float](), list[float](), list[float]()
        step = report.step(name, runs)
        plan = _entries(large_cluster(remotes, OWN.ip))
        turns = (
            (whole, lambda: _from_the_cluster(kernel, remotes)),
            (ours, lambda: _apply(kernel, plan)),
            (like, lambda: _batches(host, plan, metric=True)),
            (without, lambda: _batches(host, plan, metric=False)),
        )
        for run in range(runs):
            first = run % len(turns)
            for taken, work in (*turns[first:], *turns[:first]):
                taken.append(_in_empty(kernel, alone, work))
            report.progress.advance(step)
        kernel.close()
    report.compare(f"{name}/without metric", "ms", ours, "ip -batch", without, more=False)
    report.compare(f"{name}/like for like", "ms", ours, "ip -batch", like, more=False)
    report.tell(f"{name}/resolve, observe, diff and apply", "ms", whole)


def _entries(cluster: Cluster) -> Plan:
    """Return the operations for the entries of remote hosts only."""
    items = [item for item in resolve(cluster, site(), []) if isinstance(item, FdbEntry | Neighbour | Route)]
    items = [item for item in items if item.ns == NS and item.dev == ownership.VXLAN]
    return Plan(tuple(Add(item) for item in sorted(items, key=lambda item: type(item).__name__)))


def _in_empty(kernel: HostedKernel, alone: State, work: Callable[[], float]) -> float:
    """Return how many milliseconds a function takes in a new network without remote hosts."""
    kernel.apply(diff(alone, frozenset()))
    taken = work()
    kernel.apply(diff(frozenset(), kernel.observe(kernel.namespaces())))
    return taken


def _from_the_cluster(kernel: HostedKernel, remotes: int) -> float:
    cluster = large_cluster(remotes, OWN.ip)
    started = time.perf_counter()
    desired = resolve(cluster, site(), [])
    kernel.apply(diff(desired, kernel.observe(kernel.namespaces())))
    return 1000 * (time.perf_counter() - started)


def _apply(kernel: HostedKernel, plan: Plan) -> float:
    started = time.perf_counter()
    outcomes = kernel.apply(plan)
    taken = 1000 * (time.perf_counter() - started)
    if not all(outcome.done for outcome in outcomes):
        raise ValueError("the kernel refused an entry")
    return taken


def _batches(host: SimulatedHost, plan: Plan, *, metric: bool) -> float:
    """Create the same entries with iproute2, from prepared batch files."""
    texts: dict[str, list[str]] = {"ip": [], "bridge": []}
    for op in plan:
        program, _, _, *words = str(op).split()
        if not metric and "metric" in words:
            place = words.index("metric")
            words = words[:place] + words[place + 2 :]
        texts[program].append(" ".join(words))
    with tempfile.TemporaryDirectory(prefix="overlay-bench-") as name:
        files = {program: Path(name) / program for program in texts}
        for program, file in files.items():
            file.write_text("\n".join(texts[program]) + "\n")
        started = time.perf_counter()
        for program, file in files.items():
            host.command([program, "-n", NS.rpartition("/")[2], "-batch", str(file)])
        return 1000 * (time.perf_counter() - started)
