"""The table of results in docs/development.md."""

from datetime import date
from pathlib import Path

from tests.mutants.outcome import Count

BEGIN, END = "<!-- make mutants RECORD=1 writes these rows -->", "<!-- end of the rows -->"
HEAD = (
    "| command | mutants | killed by a test | refused by mypy | timeouts | explained | survived | date |",
    "|---|---|---|---|---|---|---|---|",
)


def record(page: Path, package: str, counted: Count, day: date) -> None:
    """Write a package's row, in place of its former one."""
    before, rest = page.read_text().split(BEGIN)
    rows, after = rest.split(END)
    command = f"`make mutants PACKAGE={package}`"
    kept = [row for row in rows.splitlines() if row.startswith("| `") and not row.startswith(f"| {command} ")]
    numbers = (
        counted.mutants,
        counted.killed,
        counted.refused,
        counted.timeouts,
        counted.explained,
        counted.survived,
        day,
    )
    row = " | ".join(
        [f"| {command}", *(f"{number:,}" if isinstance(number, int) else f"{number}" for number in numbers), ""]
    )
    page.write_text("\n".join([before + BEGIN, "", *HEAD, *sorted([*kept, row.rstrip()]), "", END]) + after)
