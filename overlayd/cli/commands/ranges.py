"""The commands that add, remove and reserve ranges of a network while hosts use it."""

from collections.abc import Callable
from typing import Annotated

import typer

from overlayd.cli import tables
from overlayd.cli.access import api
from overlayd.cli.api import Document
from overlayd.model.errors import AlreadyExists, NotFound
from overlayd.wire.fields import Fields, parse_cidr, parse_part

Name = Annotated[str, typer.Argument(help="The network's name.")]
Range = Annotated[str, typer.Argument(metavar="CIDR", help="A range, such as 10.40.0.0/16.")]
Part = Annotated[str, typer.Argument(metavar="CIDR", help="A range or an address, such as 10.40.0.0/28.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BlockLengthOption = Annotated[
    int | None,
    typer.Option(help="Prefix length of the blocks that hosts get of IPv4 ranges; 26 for most if unset."),
]
BlockLength6Option = Annotated[
    int | None,
    typer.Option(help="Prefix length of the blocks that hosts get of IPv6 ranges; 112 for most if unset."),
]


def add(
    context: typer.Context,
    name: Name,
    cidr: Range,
    block_length: BlockLengthOption = None,
    block_length6: BlockLength6Option = None,
    as_json: AsJson = False,
) -> None:
    """Add a range to a network; hosts get blocks of it when the ranges before it are full."""

    def change(found: Fields) -> Document:
        return {"pools": [*found.items("pools"), pool(cidr, block_length, block_length6)]}

    _amend(context, name, change, as_json=as_json)


def remove(context: typer.Context, name: Name, cidr: Range, as_json: AsJson = False) -> None:
    """Remove a range of which no block and no address is in use."""
    gone = str(parse_cidr(cidr, "CIDR"))

    def change(found: Fields) -> Document:
        kept = [each for each in found.objects("pools") if each.text("range") != gone]
        if len(kept) == len(found.items("pools")):
            raise NotFound(f"network {name} has no range {gone}", field="CIDR")
        return {"pools": [each.value for each in kept]}

    _amend(context, name, change, as_json=as_json)


def reserve(context: typer.Context, name: Name, cidr: Part, as_json: AsJson = False) -> None:
    """Reserve a range or an address: only reservations and explicit requests get it."""
    wanted = str(parse_part(cidr, "CIDR"))

    def change(found: Fields) -> Document:
        if wanted in found.texts("reserved"):
            raise AlreadyExists(f"{wanted} is reserved in network {name}", field="CIDR")
        return {"reserved": [*found.items("reserved"), wanted]}

    _amend(context, name, change, as_json=as_json)


def unreserve(context: typer.Context, name: Name, cidr: Part, as_json: AsJson = False) -> None:
    """Let a reserved range or address be allocated again."""
    gone = str(parse_part(cidr, "CIDR"))

    def change(found: Fields) -> Document:
        if gone not in found.texts("reserved"):
            raise NotFound(f"{gone} is not reserved in network {name}", field="CIDR")
        return {"reserved": [each for each in found.items("reserved") if each != gone]}

    _amend(context, name, change, as_json=as_json)


def pool(cidr: str, block_length: int | None, block_length6: int | None) -> Document:
    """Return a range in the API's form, which checks it."""
    length = block_length6 if ":" in cidr else block_length
    return {"range": cidr} if length is None else {"range": cidr, "block_length": length}


def line(network: Document) -> str:
    """Return the description of a network in one line."""
    kept = ", ".join(Fields(network).texts("reserved"))
    suffix = f", {kept} reserved" if kept else ""
    way = f"uplink {network.get('uplink', 'none')}{'' if network.get('egress') else ' without egress'}"
    blocks = f"{ranges(network)} in blocks of {block_lengths(network)}{suffix}"
    passing = ", ".join(Fields(network).texts("ethertypes")) if network.get("ethertypes") else ""
    others = f", passes {passing} too" if passing else ""
    return f"{network['topology']}, VNI {network['vni']}, {blocks}, {way}{others}"


def ranges(network: Document) -> str:
    """Return the ranges of a network."""
    return ", ".join(each.text("range") for each in Fields(network).objects("pools"))


def block_lengths(network: Document) -> str:
    """Return the block lengths of a network's ranges."""
    return ", ".join(f"/{each.number('block_length')}" for each in Fields(network).objects("pools"))


def _amend(context: typer.Context, name: str, change: Callable[[Fields], Document], *, as_json: bool) -> None:
    controller, path = api(context), f"/v1/networks/{name}"
    network = controller.amend(path, change)
    tables.warn(network)
    if as_json:
        tables.show_json(network)
    else:
        typer.echo(f"network {name}: {line(network)}")
