"""The commands about networks."""

from typing import Annotated

import typer

from overlayd.cli import tables
from overlayd.cli.access import api
from overlayd.cli.api import Document
from overlayd.cli.commands import ranges, uplinks
from overlayd.cli.commands.ranges import BlockLength6Option, BlockLengthOption
from overlayd.cli.commands.uplinks import EgressOption, EthertypeOption, UplinkOption
from overlayd.configuration.help_pages import PlainGroup
from overlayd.model.network import Topology
from overlayd.wire.fields import Json

app = typer.Typer(cls=PlainGroup, help="Networks: isolated address spaces that containers on any host join.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The network's name.")]


@app.command("create")
def network_create(
    context: typer.Context,
    name: Name,
    cidrs: Annotated[
        list[str],
        typer.Option("--range", metavar="CIDR", help="A range, such as 10.32.0.0/16 or fd00:32::/48. May be repeated."),
    ],
    topology: Annotated[
        Topology, typer.Option(help="routed: each host has blocks; switched: one layer-2 segment.")
    ] = Topology.ROUTED,
    block_length: BlockLengthOption = None,
    block_length6: BlockLength6Option = None,
    reserved: Annotated[
        list[str] | None,
        typer.Option(
            "--reserve",
            metavar="CIDR",
            help="A range or address that is never given out automatically. May be repeated.",
        ),
    ] = None,
    vni: Annotated[int | None, typer.Option(help="VXLAN network identifier; the lowest free one if unset.")] = None,
    uplink: UplinkOption = None,
    egress: EgressOption = None,
    ethertypes: EthertypeOption = None,
    as_json: AsJson = False,
) -> None:
    """Create a network."""
    pools: list[Json] = [ranges.pool(cidr, block_length, block_length6) for cidr in cidrs]
    body: Document = {"name": name, "topology": topology.value, "pools": pools, "reserved": [*(reserved or ())]}
    body |= uplinks.given(uplink, egress, ethertypes)
    if vni is not None:
        body["vni"] = vni
    network = api(context).post("/v1/networks", body)
    tables.warn(network)
    if as_json:
        tables.show_json(network)
    else:
        typer.echo(f"network {name} created: {ranges.line(network)}")


@app.command("list")
def network_list(context: typer.Context, as_json: AsJson = False) -> None:
    """List all networks."""
    networks = api(context).items("/v1/networks")
    if as_json:
        tables.show_json(list(networks))
        return
    rows = [
        (n["name"], n["vni"], n["topology"], ranges.ranges(n), ranges.block_lengths(n), n["state"]) for n in networks
    ]
    tables.show(tables.table("Networks", ("name", "VNI", "topology", "range", "blocks", "state"), rows))


@app.command("show")
def network_show(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show a network with its blocks."""
    controller = api(context)
    network, blocks = controller.get(f"/v1/networks/{name}"), controller.items("/v1/blocks", network=name)
    if as_json:
        tables.show_json({**network, "blocks": list(blocks)})
        return
    typer.echo(f"network {name}: {ranges.line(network)}")
    names = {host["id"]: host["name"] for host in controller.items("/v1/hosts")}
    rows = [(block["cidr"], names.get(block["host"], block["host"])) for block in blocks]
    tables.show(tables.table("Blocks", ("block", "host"), rows))


@app.command("delete")
def network_delete(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Delete a network that no container is attached to; its hosts give back their blocks first."""
    network = api(context).delete(f"/v1/networks/{name}")
    if as_json:
        tables.show_json(network or None)
    elif network:
        typer.echo(f"network {name} is being deleted: waiting for its hosts to give back their blocks")
    else:
        typer.echo(f"network {name} deleted")


app.command("set")(uplinks.change)
app.command("add-range")(ranges.add)
app.command("remove-range")(ranges.remove)
app.command("reserve")(ranges.reserve)
app.command("unreserve")(ranges.unreserve)
