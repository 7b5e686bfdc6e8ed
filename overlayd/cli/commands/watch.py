"""`overlayctl watch`: prints changes as they happen."""

import json
import sys
from typing import Annotated

import typer

from overlayd.cli.access import api
from overlayd.wire.fields import Fields


def watch(
    context: typer.Context,
    kind: Annotated[str | None, typer.Option(help="Only this kind: network, host, block, endpoint …")] = None,
    network: Annotated[str | None, typer.Option(help="Only a network and everything in it.")] = None,
    after: Annotated[
        int | None, typer.Option(help="Start after this revision. Default: print existing objects first.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object on each line.")] = False,
) -> None:
    """Print existing objects and then every change as it happens, until interrupted."""
    for line in api(context).lines("/v1/watch", kind=kind, network=network, after=after):
        if as_json:
            sys.stdout.write(f"{line}\n")
        else:
            _show(Fields(json.loads(line)))
        sys.stdout.flush()


def _show(message: Fields) -> None:
    match message.text("type"):
        case "put":
            fields = " ".join(f"{name}={value}" for name, value in message.object("object").value.items() if value)
            typer.echo(f"{message.number('revision')} + {message.text('kind')} {fields}")
        case "delete":
            key = message.value["key"]
            name = " ".join(map(str, key)) if isinstance(key, list) else key
            typer.echo(f"{message.number('revision')} - {message.text('kind')} {name}")
        case _:
            return
