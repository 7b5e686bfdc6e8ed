"""`python -m bench [NAME] [--json] [--quick]`: run a benchmark and compare its figures with a peer or a budget."""

import argparse
import asyncio
import json
import sys

from bench import (
    agent_idle,
    allocate,
    busy_cluster,
    cni_add,
    cni_del,
    cni_rate,
    commands,
    controller_memory,
    dataplane,
    drift,
    program_remotes,
    restart,
    watch,
)
from bench.report import Bench, Report

BENCHES: dict[str, Bench] = {
    "agent_idle": Bench(agent_idle.__doc__ or "", agent_idle.measure),
    "allocate": Bench(allocate.__doc__ or "", allocate.measure),
    "busy_cluster": Bench(busy_cluster.__doc__ or "", busy_cluster.measure),
    "cni_add": Bench(cni_add.__doc__ or "", cni_add.measure),
    "cni_del": Bench(cni_del.__doc__ or "", cni_del.measure),
    "cni_rate": Bench(cni_rate.__doc__ or "", cni_rate.measure),
    "commands": Bench(commands.__doc__ or "", commands.measure),
    "dataplane": Bench(dataplane.__doc__ or "", dataplane.measure),
    "drift": Bench(drift.__doc__ or "", drift.measure),
    "program_remotes": Bench(program_remotes.__doc__ or "", program_remotes.measure),
    "restart": Bench(restart.__doc__ or "", restart.measure),
    "watch": Bench(watch.__doc__ or "", watch.measure),
    "controller_memory": Bench(controller_memory.__doc__ or "", controller_memory.measure),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "name", nargs="?", choices=sorted(BENCHES), help="the benchmark to run; without it they are listed"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="run just long enough to show that the benchmark works; its figures mean nothing",
    )
    given = parser.parse_args()
    if given.name is None:
        for name, bench in BENCHES.items():
            print(f"{name:20} {bench.about.splitlines()[0]}")
        return
    report = Report(given.name, quick=given.quick, quiet=given.json)
    with report.progress:
        asyncio.run(BENCHES[given.name].measure(report))
    if given.json:
        json.dump(report.document(), sys.stdout, indent=2)
        print()
    else:
        report.show()


if __name__ == "__main__":
    main()
