"""`python -m tests.chaos`: cause faults in a lab for some time, and fail when an invariant is violated."""

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.run import Options, Outcome, chaos


def main() -> int:
    """Return the exit status: 1 when something was not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", default=secrets.token_hex(3), help="by default another one each time")
    parser.add_argument(
        "--timeline", type=Path, help="where to write what happened when; by default only after a failure"
    )
    chosen = parser.parse_args()
    console = Console(highlight=False)
    console.print(f"chaos: seed {chosen.seed}, {chosen.minutes:g} minutes")
    with tempfile.TemporaryDirectory(prefix="overlayd-chaos-") as directory:
        outcome = chaos(Options(60 * chosen.minutes, chosen.seed, Path(directory)), console.print)
    if chosen.timeline:
        chosen.timeline.write_text(outcome.timeline)
    show(console, chosen.seed, outcome)
    return 1 if outcome.violations else 0


def show(console: Console, seed: str, outcome: Outcome) -> None:
    """Print what happened, and the timeline when something was wrong."""
    table = Table("what went wrong", "times", title=f"seed {seed}", title_justify="left")
    for what, number in sorted(outcome.faults.items()):
        table.add_row(what, str(number))
    table.add_section()
    for what, number in sorted(outcome.done.items()):
        table.add_row(what, str(number))
    console.print(table)
    if not outcome.violations:
        console.print("[green]everything was as it must be[/]")
        return
    console.print(outcome.timeline, markup=False)
    console.print(f"[red]{len(outcome.violations)} violations, seed {seed}:[/]")
    for violation in outcome.violations:
        console.print(violation, markup=False)


if __name__ == "__main__":
    sys.exit(main())
