"""The start of an agent on a host whose kernel already has all entries of 20,000 remote hosts."""

import tempfile
import time
from contextlib import closing
from pathlib import Path

from bench.large_cluster import NETWORK
from bench.lone_agent import lone_agent
from bench.report import Report
from tests.support.kernel.notifications import Listening
from tests.support.lab.processes import eventually

REMOTES = 20_000
BUDGET = 0.5


async def measure(report: Report) -> None:
    remotes, runs = (200, 2) if report.quick else (REMOTES, 9)
    with tempfile.TemporaryDirectory(prefix="overlay-bench-") as name, lone_agent(Path(name), remotes) as lone:
        lone.start()
        cached = lone.host.directory / "written/var/lib/overlayd/cluster.json"
        eventually(cached.exists, "the cluster is cached")
        step = report.step("restart", runs)
        taken, heard = [], 0
        for _ in range(runs):
            lone.host.stop_agent()
            with closing(Listening(lone.host, NETWORK.name)) as listening:
                before = len(lone.reports)
                started = time.monotonic()
                lone.start()
                taken.append(lone.reports[before][0] - started)
                heard += len(listening.heard())
            report.progress.advance(step)
    report.bound(f"{remotes} remotes/from the start of the process to the report", "s", taken, BUDGET)
    report.none("notifications of the kernel during the start", "messages", heard)
