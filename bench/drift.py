"""The time until the agent has repaired a manual change in the kernel."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.reporting.report import Report
from tests.support.lab.lab import Container, Lab, LabHost

_PAUSE = 5.5
"""Seconds between two changes. The agent delays repairs of changes that recur sooner."""

INSIDE = "ip -n ov-blue"
BREAKS = {
    "vx0 deleted": f"{INSIDE} link del vx0",
    "vx0 down": f"{INSIDE} link set vx0 down",
    "routes deleted": f"{INSIDE} route flush proto 118",
    "neighbours deleted": f"{INSIDE} neighbour flush nud permanent",
    "forwarding off": "nsenter --net=/run/netns/ov-blue sysctl -qw net.ipv4.ip_forward=0",
    "namespace deleted": "ip netns delete ov-blue",
}


async def measure(report: Report) -> None:
    runs = 1 if report.quick else 5
    with tempfile.TemporaryDirectory(prefix="overlay-bench-") as name, Lab(Path(name), hosts=2, executed=True) as lab:
        lab.start_controller()
        for host in lab.hosts:
            host.start_agent("--resync", "3600")
        lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
        here, there = (host.attach(f"c-{host.name}", "blue") for host in lab.hosts)
        lab.in_force(here, there)
        step = report.step("drift", runs * len(BREAKS))
        for what, command in BREAKS.items():
            taken = []
            for _ in range(runs):
                await asyncio.sleep(_PAUSE)
                taken.append(_repair(lab.hosts[0], command, lambda: _works(here, there)))
                report.progress.advance(step)
            report.tell(what, "s", taken)


def _repair(host: LabHost, command: str, works: Callable[[], bool]) -> float:
    """Return the seconds from the end of a command until traffic passes again."""
    host.run(*command.split())
    broken = time.monotonic()
    while not works():
        if time.monotonic() > broken + 30:
            raise TimeoutError(f"not repaired: {command}")
    return time.monotonic() - broken


def _works(here: Container, there: Container) -> bool:
    # A namespace whose name was deleted still exists for a moment, and forwards.
    return "ov-blue" in here.host.run("ip", "netns", "list") and here.ping(there.address, wait=0.02) is not None
