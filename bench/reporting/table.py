"""`python -m bench.reporting.table [NAME...]`: run benchmarks, and write the tables of bench/README.md and README.md.

Each result is kept in build/bench as soon as it is there. A run that is interrupted goes on with `--continue`, and
`--from DIRECTORY` writes the tables from the results that are there, and names those that are missing. With names it
runs only these, and writes no table.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.__main__ import BENCHES
from bench.reporting.pages import PAGE, README, Document, with_comparison, with_measured

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build/bench"
INTERRUPTED = 130
"""The exit status of a shell whose command Ctrl-C ended."""


def main() -> int:
    """Return the exit status: 1 when a benchmark could not measure, or a result is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.reporting.table", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}")
    parser.add_argument("--quick", action="store_true", help="show that all work; the figures mean nothing")
    parser.add_argument("--continue", action="store_true", dest="go_on", help="measure only what has no result yet")
    parser.add_argument("--from", type=Path, dest="stored", metavar="DIRECTORY", help="measure nothing; take results")
    given = parser.parse_args()
    if unknown := set(given.names) - set(BENCHES):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    names = given.names or list(BENCHES)
    if given.stored:
        return _write(given.stored)
    if given.quick:
        with tempfile.TemporaryDirectory(prefix="overlay-bench-") as directory:
            return _measure(names, Path(directory), ["--quick"])
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in () if given.go_on else names:
        _result(RESULTS, name).unlink(missing_ok=True)
    failed = _measure([name for name in names if not _result(RESULTS, name).exists()], RESULTS, [])
    return failed or (0 if given.names else _write(RESULTS))


def _measure(names: Sequence[str], directory: Path, options: Iterable[str]) -> int:
    """Run benchmarks one after another; return the exit status."""
    began, failed = time.monotonic(), []
    for number, name in enumerate(names, 1):
        minutes = (time.monotonic() - began) / 60
        print(f"[{number}/{len(names)}] {name}, after {minutes:.0f} min", file=sys.stderr, flush=True)
        partial = directory / f"{name}.partial"
        command = [sys.executable, "-m", "bench", name, "--output", str(partial), *options]
        with subprocess.Popen(command, cwd=ROOT) as process:
            try:
                status = process.wait()
            except KeyboardInterrupt:
                # It was interrupted as well, and ends what it has started.
                process.wait()
                print(f"interrupted: {directory} has what was measured; --continue measures the rest", file=sys.stderr)
                return INTERRUPTED
        if status:
            failed.append(name)
        else:
            partial.rename(_result(directory, name))
    if failed:
        print(f"could not measure: {', '.join(failed)}; --continue tries again", file=sys.stderr)
    return int(bool(failed))


def _write(directory: Path) -> int:
    """Write the tables from the results in a directory; return the exit status."""
    found = [_result(directory, name) for name in BENCHES if _result(directory, name).exists()]
    if not found:
        print(f"{directory} has no results; the tables stay as they are", file=sys.stderr)
        return 1
    documents: list[Document] = [json.loads(result.read_text()) for result in found]
    page = with_measured(PAGE.read_text(), documents)
    PAGE.write_text(page)
    README.write_text(with_comparison(README.read_text(), page))
    return 0


def _result(directory: Path, name: str) -> Path:
    return directory / f"{name}.json"


if __name__ == "__main__":
    sys.exit(main())
