"""The way between a network and the rest of the world."""

from typing import Annotated

import typer

from overlayd.cli import ranges, tables
from overlayd.cli.access import api
from overlayd.cli.api import Document
from overlayd.model.network import Uplink

UplinkOption = Annotated[
    Uplink | None,
    typer.Option(
        help="host: each host is a member of the network; isolated: address translation alone; none; "
        "auto (the default): host where its addresses are not in use otherwise, else isolated."
    ),
]
EgressOption = Annotated[
    bool | None,
    typer.Option("--egress/--no-egress", help="Whether containers may begin connections to the world outside."),
]


def change(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The network's name.")],
    uplink: UplinkOption = None,
    egress: EgressOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Change a network's way to the rest of the world, on all its hosts."""
    wanted = given(uplink, egress)
    if not wanted:
        raise typer.BadParameter("give --uplink, --egress or --no-egress")
    network = api(context).patch(f"/v1/networks/{name}", wanted)
    tables.warn(network)
    if as_json:
        tables.show_json(network)
    else:
        typer.echo(f"network {name}: {ranges.line(network)}")


def given(uplink: Uplink | None, egress: bool | None) -> Document:  # noqa: FBT001 - an option's value
    """Return what of these options was given, as the API takes it."""
    found: Document = {} if uplink is None else {"uplink": uplink.value}
    return found if egress is None else {**found, "egress": egress}
