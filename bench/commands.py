"""How long `overlayctl` takes: its help, and a list that a controller answers over TLS; whole processes."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.reporting.report import Report
from tests.support.lab.lab import Lab


async def measure(report: Report) -> None:
    runs = 2 if report.quick else 40
    program = [str(Path(sys.executable).with_name("overlayctl"))]
    with (
        tempfile.TemporaryDirectory(prefix="overlay-bench-") as name,
        Lab(Path(name), secure=True, executed=True) as lab,
    ):
        lab.start_controller()
        lab.overlayctl("network", "create", "blue", "--range", "10.32.0.0/16")
        step = report.step("commands", runs)
        helps, lists, bare = [], [], []
        for _ in range(runs):
            bare.append(_milliseconds([sys.executable, "-c", "pass"], {}))
            helps.append(_milliseconds([*program, "--help"], {}))
            lists.append(_milliseconds([*program, "network", "list"], lab.as_admin))
            report.progress.advance(step)
    report.tell("overlayctl --help", "ms", helps)
    report.tell("overlayctl network list", "ms", lists)
    report.tell("the interpreter alone", "ms", bare)


def _milliseconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=True)
    return 1000 * (time.perf_counter() - started)
