"""What a process uses: processor time and memory, as proc(5) says."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_AFTER_NAME = 3
"""The number of the first field of /proc/PID/stat after the name of the program."""

_CUTIME, _CSTIME = 16, 17

QUIET, QUIET_SHARE = 0.15, 0.01
"""Daemons count as done when they have used the processor for less than this share of so many seconds.

An agent publishes and reports 0.1 s after a change at the latest. A web server that waits wakes ten times a second.
"""


def processor_seconds(pid: int) -> float:
    """Return how long the threads of a process ran, and the children that it waited for.

    Fields 16 and 17 of /proc/PID/stat, in ticks, are of the children; the first one of each schedstat, in nanoseconds,
    is of a thread. A thread that has ended is missing, but ours live as long as the process.
    """
    threads = sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = sum(int(fields[number - _AFTER_NAME]) for number in (_CUTIME, _CSTIME))
    return threads / 1e9 + children / _TICKS


def resident_megabytes(pid: int) -> float:
    """Return how much memory a process has, what it shares with others included (smaps_rollup: Rss)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) / 1024
    raise LookupError("smaps_rollup has no Rss")


def until_quiet(pids: Sequence[int], patience: float = 60.0) -> float:
    """Return the processor seconds of these processes once they hardly use any.

    Raise `TimeoutError` when that is not so within `patience` seconds.
    """
    deadline = time.monotonic() + patience
    used = sum(map(processor_seconds, pids))
    while time.monotonic() < deadline:
        before = used
        time.sleep(QUIET)
        used = sum(map(processor_seconds, pids))
        if used - before < QUIET * QUIET_SHARE:
            return used
    raise TimeoutError(f"not quiet within {patience:.0f} s")
