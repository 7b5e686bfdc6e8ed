"""Options that several commands of `overlayd` share, and how these commands report errors."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from overlayd.agent.settings import SCHEMA, failure_line
from overlayd.configuration import sources
from overlayd.model.errors import OverlayError

ConfigOption = Annotated[Path | None, sources.option(SCHEMA)]
WrittenConfigOption = Annotated[Path | None, sources.option(SCHEMA, writes=True)]
StateDirOption = Annotated[
    Path,
    typer.Option(
        "--state-dir",
        envvar="OVERLAYD_STATE_DIR",
        metavar="DIRECTORY",
        help="Host id, credential and cluster cache; outlives the boot.",
        readable=False,  # reported where it is read
    ),
]
NameOption = Annotated[
    str,
    typer.Option(
        "--name", envvar="OVERLAYD_NAME", metavar="NAME", help="Display name of this host; the host name if unset."
    ),
]
VtepOption = Annotated[
    str | None,
    typer.Option(
        "--vtep",
        envvar="OVERLAYD_VTEP",
        metavar="ADDRESS",
        help="Underlay address of this host; the one that reaches the first controller if unset.",
    ),
]


@contextlib.contextmanager
def errors_reported(context: typer.Context) -> Iterator[None]:
    """Report an error in one line, which names the place of a setting at fault, and end the process with status 1."""
    try:
        with sources.located(context):
            yield
    except (OverlayError, OSError) as error:
        typer.echo(f"overlayd: {failure_line(error)}", err=True)
        sys.exit(1)
