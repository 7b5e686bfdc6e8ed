"""`python -m bench [NAME] [--json] [--quick]`: run a benchmark and compare its figures with a peer or a budget."""

import argparse
import asyncio
import compileall
import json
import sys
from pathlib import Path

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
    runtimes,
    watch,
)
from bench.reporting.report import Bench, Report

ROOT = Path(__file__).resolve().parents[1]

BENCHES: dict[str, Bench] = {
    module.__name__.rpartition(".")[2]: Bench(module.__doc__ or "", module.measure)
    for module in (
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
        runtimes,
        watch,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "name", nargs="?", choices=sorted(BENCHES), help="the benchmark to run; without it they are listed"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the JSON object into a file as well")
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
    _compile()
    report = Report(given.name, quick=given.quick, quiet=given.json)
    try:
        with report.progress:
            asyncio.run(BENCHES[given.name].measure(report))
    except KeyboardInterrupt:
        sys.exit(f"{given.name} is interrupted")
    document = json.dumps(report.document(), indent=2)
    if given.output:
        given.output.write_text(document + "\n")
    if given.json:
        print(document)
    else:
        report.show()


def _compile() -> None:
    """Compile the programs that benchmarks start, as an installation does.

    Otherwise, where Python is set not to write byte code, each measured start would compile every module.
    """
    for package in ("cni", "controller", "overlayd"):
        compileall.compile_dir(ROOT / package, quiet=1)


if __name__ == "__main__":
    main()
