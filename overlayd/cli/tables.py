"""What people would rather look at than read: tables, and JSON for programs."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from overlayd.wire.fields import Fields, Json


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table; the first column names the object of the row."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold cyan", border_style="dim")
    for index, column in enumerate(columns):
        made.add_column(column, style="bold" if index == 0 else "", overflow="fold")
    for row in rows:
        # As text: a MAC such as 2e:cd:8b… holds the name of an emoji, and a problem may hold brackets.
        made.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return made


def show(made: Table) -> None:
    """Print a table on stdout; a table without rows is one line that says so."""
    if made.row_count:
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
    """Return a time, in seconds since 1970 (UTC), as people read it, in their own time zone; "" for none."""
    if not isinstance(seconds, int | float):
        return ""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
