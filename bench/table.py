"""`python -m bench.table [--quick] [NAME...]`: run benchmarks, and write what they measured into bench/README.md.

With names it runs only these and prints the table, without writing it: the table in the README is of one run.
"""

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.__main__ import BENCHES

README = Path(__file__).with_name("README.md")
BEGIN = "<!-- measured: written by `make bench-table` -->\n"
END = "<!-- end of what was measured -->\n"

Document = Mapping[str, object]


def main() -> int:
    """Return the exit status: 1 when a benchmark could not measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.table", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}")
    parser.add_argument("--quick", action="store_true", help="show that it works; the figures mean nothing")
    given = parser.parse_args()
    if unknown := set(given.names) - set(BENCHES):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    begun = dt.datetime.now(dt.UTC)
    busy = os.getloadavg()[0]
    documents = []
    for name in given.names or BENCHES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "bench", name, "--json", *(["--quick"] if given.quick else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            print(f"{name} could not measure; {README} stays as it is", file=sys.stderr)
            return 1
        documents.append(json.loads(done.stdout))
    section = rendered(documents, begun, busy)
    if given.names or given.quick:
        print(section)
    else:
        README.write_text(replaced(README.read_text(), section))
    return 0


def rendered(documents: Sequence[Document], begun: dt.datetime, busy: float) -> str:
    """Return the section for what benchmarks measured that began at this time, with this load average before them."""
    cases = [(str(document["bench"]), case) for document in documents for case in _cases(document)]
    bounded = [case for _, case in cases if case["met"] is not None]
    met = sum(bool(case["met"]) for case in bounded)
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    head = (
        f"On {begun:%Y-%m-%d} from {begun:%H:%M} UTC, with a load average of {busy:.1f} before it began: {machine}.\n"
        f"{met} of {len(bounded)} budgets are met.\n"
    )
    rows = [
        "| benchmark | case | unit | ours p50 | p99 | peer p50 | ratio | budget | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows += [_row(bench, case) for bench, case in cases]
    return head + "\n" + "\n".join(rows) + "\n"


def replaced(readme: str, section: str) -> str:
    """Return a README with this section in place of the one that it has; raise `ValueError` when it has none."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{README} has no section between {BEGIN.strip()} and {END.strip()}")
    return before + begin + "\n" + section + "\n" + end + after


def _cases(document: Document) -> list[dict[str, object]]:
    cases = document["cases"]
    if not isinstance(cases, list):
        raise TypeError(f"the cases of {document['bench']} are no list")
    return cases


def _row(bench: str, case: Mapping[str, object]) -> str:
    ours, peer, ratio = case["ours"], case["peer"], case["ratio"]
    verdict = {None: "", True: "met", False: "**missed**"}[case["met"] if isinstance(case["met"], bool) else None]
    columns = (
        f"`{bench}`",
        case["case"],
        case["unit"],
        _figure(ours, "p50"),
        _figure(ours, "p99"),
        f"{_figure(peer, 'p50')} ({peer['name']})" if isinstance(peer, dict) else "",
        f"{ratio:.2f}" if isinstance(ratio, float | int) else "",
        case["budget"],
        verdict,
    )
    return "| " + " | ".join(str(column).replace("|", "\\|") for column in columns) + " |"


def _figure(figures: object, name: str) -> str:
    return f"{figures[name]:.4g}" if isinstance(figures, dict) else ""


if __name__ == "__main__":
    sys.exit(main())
