"""`python -m tests.soak`: run the soak, print what happened, and fail when a fault was found."""

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from tests.soak.run import Options, Outcome, soak


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--pause", type=float, default=4.0, help="seconds between two actions of a host, on average")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the outcome")
    parser.add_argument("--logs", type=Path, help="where the controllers log; a directory that is kept")
    chosen = parser.parse_args()
    # That agents change over is what they are here for.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as temporary:
        logs = chosen.logs or Path(temporary)
        logs.mkdir(parents=True, exist_ok=True)
        options = Options(chosen.minutes * 60, chosen.hosts, chosen.pause, chosen.seed, logs)
        outcome = asyncio.run(soak(options))
    figures = summary(options, outcome)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")
    show(figures)
    sys.exit(bool(outcome.faults))


def summary(options: Options, outcome: Outcome) -> dict[str, object]:
    """Return the figures, as they go into the file."""
    seconds = sorted(outcome.tally.seconds)
    cuts = statistics.quantiles(seconds, n=100)
    return {
        "seconds": options.seconds,
        "hosts": options.hosts,
        "seed": options.seed,
        "harm": outcome.chaos,
        "done": dict(outcome.tally.done.most_common()),
        "refused": dict(outcome.tally.refused.most_common()),
        "repeated": dict(outcome.tally.repeated.most_common()),
        "answers": {
            "median ms": round(1000 * statistics.median(seconds), 1),
            "p99 ms": round(1000 * cuts[98], 1),
            "longest s": round(seconds[-1], 2),
        },
        "acknowledged writes": outcome.acknowledged,
        "history entries": outcome.history,
        "stored": outcome.stored,
        "store revision": outcome.revision,
        "faults": list(outcome.faults),
    }


def show(figures: dict[str, object]) -> None:
    table = Table("figure", "value", title="soak")
    for name, value in figures.items():
        if isinstance(value, dict):
            table.add_row(name, "\n".join(f"{number:>8}  {what}" for what, number in value.items()))
        elif isinstance(value, list):
            table.add_row(name, f"{len(value)}" + "".join(f"\n{line}" for line in value[:20]))
        else:
            table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
