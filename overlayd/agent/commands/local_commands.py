"""The commands about this host: `overlayd plan`, `overlayd status` and `overlayd cleanup`."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from overlayd.agent.commands.cleanup import check_unused, clean_up, plan_cleanup
from overlayd.agent.control.client import ask, plan_lines, status_lines
from overlayd.agent.control.server import shown
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.records.recovery import unexplained
from overlayd.agent.runtime.instance_lock import held
from overlayd.agent.settings import DEFAULT_STATE_DIR
from overlayd.kernel.linux import LinuxKernel
from overlayd.model.errors import OverlayError

RUN_DIR = Path("/run/overlayd")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def plan(as_json: AsJson = False) -> None:
    """Show what the agent of this host would do now; nothing when the kernel is as it should be."""
    with reported():
        answer = ask("plan")
        if as_json:
            typer.echo(json.dumps(answer.value, indent=2))
            return
        typer.echo("\n".join(plan_lines(answer)))


def status(as_json: AsJson = False) -> None:
    """Show how far the agent of this host is, what it works with, and what is wrong."""
    with reported():
        answer = ask("status")
        if as_json:
            typer.echo(json.dumps(answer.value, indent=2))
            return
        typer.echo("\n".join(status_lines(answer)))


def cleanup(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; otherwise what would be done is shown.")] = False,
    attached: Annotated[bool, typer.Option("--attached", help="Also when containers lose their network.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove everything of overlayd from this host's kernel, while no agent runs; its id and its blocks stay."""
    with reported(), held(DEFAULT_STATE_DIR, RUN_DIR), contextlib.closing(LinuxKernel()) as kernel:
        records = AttachmentRecords(RUN_DIR / "attachments")
        records.load()
        if not attached:
            check_unused(records, unexplained(kernel, records))
        removal = plan_cleanup(kernel)
        if not as_json:
            typer.echo(str(removal) or "nothing to do: there is nothing of overlayd in the kernel")
        failures = list(clean_up(kernel, removal, records)) if yes else []
        if as_json:
            body = {**shown(removal), "done": yes and not failures, "failures": failures}
            typer.echo(json.dumps(body, indent=2))
        if not yes:
            typer.echo("nothing was done: overlayd cleanup --yes does it", err=True)
        for failure in failures:
            typer.echo(f"overlayd: {failure}", err=True)
        if failures:
            sys.exit(1)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Report an error of the block in one line, and exit with status 1."""
    try:
        yield
    except (OverlayError, OSError) as error:
        typer.echo(f"overlayd: {error}", err=True)
        sys.exit(1)
