"""Output of the commands: tables for people, and JSON for programs."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from overlayd.wire.fields import Fields, Json

if TYPE_CHECKING:
    from rich.table import Table


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> "Table":
    """Return a table; the first column names the object of the row."""
    from rich.table import Table  # what prints one line need not wait for it
    from rich.text import Text

    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold cyan", border_style="dim")
    for index, column in enumerate(columns):
        made.add_column(column, style="bold" if index == 0 else "", overflow="fold")
    for row in rows:
        # Text() disables markup: a MAC such as 2e:cd:8b… contains an emoji's name, and a problem may have brackets.
        made.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return made


def show(made: "Table") -> None:
    """Print a table on stdout, or one line if it has no rows."""
    if made.row_count:
        from rich.console import Console

        Console().print(made)
    else:
        sys.stdout.write(f"no {made.title}\n".lower())


def show_json(document: Json) -> None:
    """Print a document as JSON on stdout."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def warn(document: dict[str, Json]) -> None:
    """Print the warnings in an answer on stderr."""
    for warning in Fields(document).texts("warnings") if "warnings" in document else ():
        sys.stderr.write(f"warning: {warning}\n")


def moment(seconds: Json) -> str:
    """Return a time, in seconds since 1970 (UTC), as date and time of the local time zone; "" for null."""
    if not isinstance(seconds, int | float):
        return ""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
