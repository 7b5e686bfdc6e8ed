"""Memory and processor time of an idle agent with 1,000 remote hosts and 100 endpoints."""

import asyncio
import tempfile
import time
from pathlib import Path

from bench.large_cluster import NETWORK
from bench.lone_agent import lone_agent
from bench.report import Report

MEGABYTES, PERCENT = 80.0, 1.0


async def measure(report: Report) -> None:
    remotes, endpoints, seconds = (100, 3, 2.0) if report.quick else (1_000, 100, 90.0)
    with tempfile.TemporaryDirectory(prefix="overlay-bench-") as name, lone_agent(Path(name), remotes) as lone:
        process = lone.start()
        for number in range(endpoints):
            lone.host.attach(f"c{number}", NETWORK.name)
        pid = process.pid.number
        step = report.step("idle", 10)
        await asyncio.sleep(1.0)
        before, started = _processor_seconds(pid), time.monotonic()
        for _ in range(10):
            await asyncio.sleep(seconds / 10)
            report.progress.advance(step)
        share = 100 * (_processor_seconds(pid) - before) / (time.monotonic() - started)
        memory = _resident(pid)
    report.bound("resident memory", "MB", [memory], MEGABYTES)
    report.bound("processor", "% of a core", [share], PERCENT)


def _processor_seconds(pid: int) -> float:
    """Return how long the threads of a process ran (proc(5), schedstat: the first field, in nanoseconds)."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) / 1024
    raise LookupError("smaps_rollup has no Rss")
