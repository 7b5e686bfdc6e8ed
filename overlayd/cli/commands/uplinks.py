"""The command that changes a network's uplink, egress and EtherTypes."""

from collections.abc import Sequence
from typing import Annotated

import typer

from overlayd.cli import tables
from overlayd.cli.access import api
from overlayd.cli.api import Document
from overlayd.cli.commands import ranges
from overlayd.model.network import Uplink

UplinkOption = Annotated[
    Uplink | None,
    typer.Option(
        help="host: each host is a member of the network; isolated: address translation only; none; "
        "auto (the default): host where the network's ranges are not in use otherwise, else isolated."
    ),
]
EgressOption = Annotated[
    bool | None,
    typer.Option("--egress/--no-egress", help="Whether containers may open connections to outside the network."),
]


EthertypeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--ethertype",
        metavar="0xNNNN|none",
        help="EtherType that a switched network forwards beside ARP, IPv4 and IPv6; none: no other. May be repeated.",
    ),
]


def change(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The network's name.")],
    uplink: UplinkOption = None,
    egress: EgressOption = None,
    ethertypes: EthertypeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Change a network's uplink, egress or EtherTypes on all its hosts."""
    wanted = given(uplink, egress, ethertypes)
    if not wanted:
        raise typer.BadParameter("give --uplink, --egress, --no-egress or --ethertype")
    network = api(context).patch(f"/v1/networks/{name}", wanted)
    tables.warn(network)
    if as_json:
        tables.show_json(network)
    else:
        typer.echo(f"network {name}: {ranges.line(network)}")


def given(
    uplink: Uplink | None,
    egress: bool | None,  # noqa: FBT001 - an option's value
    ethertypes: Sequence[str] | None,
) -> Document:
    """Return the given ones of these options in the API's form."""
    found: Document = {} if uplink is None else {"uplink": uplink.value}
    if egress is not None:
        found["egress"] = egress
    if ethertypes is not None:
        found["ethertypes"] = [] if list(ethertypes) == ["none"] else [*ethertypes]
    return found
