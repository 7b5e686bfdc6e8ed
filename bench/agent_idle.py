"""Memory and processor time of an agent with 1,000 remote hosts and 100 endpoints, idle and with changes."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

from bench.hosts.large_cluster import NETWORK, REVISION, large_cluster
from bench.hosts.lone_agent import lone_agent
from bench.hosts.process_costs import processor_seconds, resident_megabytes
from bench.reporting.report import Report
from overlayd.model.ids import Revision
from overlayd.wire.feed import Delta, encode_line


async def measure(report: Report) -> None:
    remotes, endpoints, seconds = (100, 3, 3) if report.quick else (1_000, 100, 60)
    cluster = large_cluster(remotes)
    hosts = sorted(cluster.hosts.values(), key=lambda host: host.number)[1:]
    revisions = count(REVISION + 1)

    def change() -> None:
        """Rename a remote host, which every host hears of."""
        revision = next(revisions)
        renamed = replace(hosts[revision % len(hosts)], name=f"renamed-{revision}")
        lone.hear(encode_line(Delta(Revision(revision), (renamed,), ())), revision)

    with tempfile.TemporaryDirectory(prefix="overlay-bench-") as name, lone_agent(Path(name), cluster.records) as lone:
        pid = lone.start().pid.number
        for number in range(endpoints):
            lone.host.attach(f"c{number}", NETWORK.name)
        await asyncio.sleep(1.0)
        idle = await _share(report, "idle", pid, seconds, lambda: None)
        busy = await _share(report, "a change each second", pid, seconds, change)
        memory = resident_megabytes(pid)
    report.tell("resident memory", "MB", [memory])
    report.tell("processor, idle", "% of a core", [idle])
    report.tell("processor, a change each second", "% of a core", [busy])


async def _share(report: Report, what: str, pid: int, seconds: int, each: Callable[[], None]) -> float:
    """Return how much of a core a process takes while something is done each second, in percent."""
    step = report.step(what, seconds)
    before, started = processor_seconds(pid), time.monotonic()
    for second in range(1, seconds + 1):
        each()
        await asyncio.sleep(max(0.0, started + second - time.monotonic()))
        report.progress.advance(step)
    return 100 * (processor_seconds(pid) - before) / (time.monotonic() - started)
