"""The start of an agent whose kernel has the entries of 20,000 remote hosts: until it answers an ADD, until in sync."""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from bench.hosts.cni_socket import execute, first_served
from bench.hosts.large_cluster import NETWORK, large_cluster
from bench.hosts.lone_agent import LoneAgent, lone_agent
from bench.hosts.process_costs import until_quiet
from bench.reporting.report import Report
from tests.support.kernel.notifications import Listening
from tests.support.lab.processes import eventually

REMOTES = 20_000
CONTAINER = "first"


async def measure(report: Report) -> None:
    remotes, runs = (200, 2) if report.quick else (REMOTES, 9)
    cluster = large_cluster(remotes)
    with tempfile.TemporaryDirectory(prefix="overlay-bench-") as name, lone_agent(Path(name), cluster.records) as lone:
        lone.start()
        lone.host.add_sandbox(CONTAINER)
        eventually(lambda: any(lone.state.glob("cluster*")), "the cluster is cached")
        step = report.step("restart", 2 * runs)
        in_sync, heard, listens, served = list[float](), 0, list[float](), list[float]()
        for _ in range(runs):
            seconds, messages = _left_alone(lone)
            in_sync.append(seconds)
            heard += messages
            report.progress.advance(step)
            for taken, since_start in zip((listens, served), _asked_at_once(lone), strict=True):
                taken.append(since_start)
            report.progress.advance(step)
    report.tell(f"{REMOTES} remotes/until it takes requests", "s", listens)
    report.tell(f"{REMOTES} remotes/until an ADD is answered", "s", served)
    report.tell(f"{REMOTES} remotes/until in sync", "s", in_sync)
    report.tell(f"{REMOTES} remotes/what the kernel said of writes", "messages", [heard])


def _left_alone(lone: LoneAgent) -> tuple[float, int]:
    """Restart; return the seconds from the start of the process to its report, and how much the kernel said."""
    lone.host.stop_agent()
    with closing(Listening(lone.host, NETWORK.name)) as listening:
        before = len(lone.reports)
        started = time.monotonic()
        lone.start()
        return lone.reports[before][0] - started, len(listening.heard())


def _asked_at_once(lone: LoneAgent) -> tuple[float, float]:
    """Restart while a runtime waits with an ADD.

    Return the seconds from the start of the process until it takes requests, and until the ADD is answered.
    """
    lone.host.stop_agent()
    with ThreadPoolExecutor(1) as runtime:
        answered = runtime.submit(first_served, lone.host, NETWORK.name, CONTAINER, CONTAINER)
        started = time.monotonic()
        agent = lone.start()
        listens, served = answered.result()
    execute(lone.host, "DEL", NETWORK.name, CONTAINER, CONTAINER)
    until_quiet([agent.pid.number])  # or the next start would have to delete what is detached
    return listens - started, served - started
