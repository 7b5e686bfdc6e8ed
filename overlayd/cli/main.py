"""The commands of `overlayctl`."""

import sys
import time
from typing import Annotated

import typer

from overlayd.agent.control.client import ask, plan_lines, status_lines
from overlayd.cli import (
    capacity,
    endpoints,
    history,
    hosts,
    login,
    ranges,
    reservations,
    tables,
    tokens,
    uplinks,
    watch,
)
from overlayd.cli.access import CaOption, ControllerOption, Given, TokenFileOption
from overlayd.cli.access import api as _api
from overlayd.cli.api import Document
from overlayd.cli.ranges import BlockLength6Option, BlockLengthOption
from overlayd.cli.uplinks import EgressOption, EthertypeOption, UplinkOption
from overlayd.configuration.help_pages import PlainGroup
from overlayd.model.errors import OverlayError
from overlayd.model.network import Topology
from overlayd.wire.fields import Fields, Json

WAIT_MAX = 5.0
"""Seconds that a controller waits for the hosts in one request; longer waits take several requests."""

app = typer.Typer(
    cls=PlainGroup,
    help="Administer the overlayd VXLAN network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
network_app = typer.Typer(cls=PlainGroup, help="Networks: isolated address spaces that containers on any host join.")
app.add_typer(network_app, name="network", no_args_is_help=True)
app.add_typer(hosts.app, name="host", no_args_is_help=True)
app.add_typer(reservations.app, name="reservation", no_args_is_help=True)
app.add_typer(endpoints.app, name="endpoint", no_args_is_help=True)
app.add_typer(tokens.app, name="token", no_args_is_help=True)
app.command("history")(history.history)
app.command("capacity")(capacity.show)
network_app.command("add-range")(ranges.add)
network_app.command("remove-range")(ranges.remove)
network_app.command("reserve")(ranges.reserve)
network_app.command("unreserve")(ranges.unreserve)
network_app.command("set")(uplinks.change)
app.command("watch")(watch.watch)
app.command("login")(login.login)
app.command("logout")(login.logout)
app.command("whoami")(login.whoami)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The network's name.")]
NetworkFilter = Annotated[str | None, typer.Option("--network", help="Of this network only.")]


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback has this form
    if wanted:
        from importlib.metadata import version

        typer.echo(f"overlayctl {version('overlayd')}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    controller: ControllerOption = None,
    token_file: TokenFileOption = None,
    ca: CaOption = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Read the options of all commands."""
    context.obj = Given(controller, token_file, ca)


@network_app.command("create")
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
        typer.Option("--reserve", metavar="CIDR", help="A range or address not to be given out. May be repeated."),
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
    network = _api(context).post("/v1/networks", body)
    tables.warn(network)
    if as_json:
        tables.show_json(network)
    else:
        typer.echo(f"network {name} created: {ranges.line(network)}")


@network_app.command("list")
def network_list(context: typer.Context, as_json: AsJson = False) -> None:
    """List all networks."""
    networks = _api(context).items("/v1/networks")
    if as_json:
        tables.show_json(list(networks))
        return
    rows = [
        (n["name"], n["vni"], n["topology"], ranges.ranges(n), ranges.block_lengths(n), n["state"]) for n in networks
    ]
    tables.show(tables.table("Networks", ("name", "VNI", "topology", "range", "blocks", "state"), rows))


@network_app.command("show")
def network_show(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show a network with its blocks."""
    api = _api(context)
    network, blocks = api.get(f"/v1/networks/{name}"), api.items("/v1/blocks", network=name)
    if as_json:
        tables.show_json({**network, "blocks": list(blocks)})
        return
    typer.echo(f"network {name}: {ranges.line(network)}")
    names = {host["id"]: host["name"] for host in api.items("/v1/hosts")}
    rows = [(block["cidr"], names.get(block["host"], block["host"])) for block in blocks]
    tables.show(tables.table("Blocks", ("block", "host"), rows))


@network_app.command("delete")
def network_delete(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Delete a network that no container is attached to; its hosts give back their blocks first."""
    network = _api(context).delete(f"/v1/networks/{name}")
    if as_json:
        tables.show_json(network or None)
    elif network:
        typer.echo(f"network {name} is being deleted: waiting for its hosts to give back their blocks")
    else:
        typer.echo(f"network {name} deleted")


@app.command()
def plan(as_json: AsJson = False) -> None:
    """Show the operations that the agent of this host would execute now; none when the kernel is as desired."""
    answer = ask("plan")
    if as_json:
        tables.show_json(answer.value)
        return
    typer.echo("\n".join(plan_lines(answer)))


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show the state of the agent of this host."""
    answer = ask("status")
    if as_json:
        tables.show_json(answer.value)
        return
    typer.echo("\n".join(status_lines(answer)))


@app.command()
def wait(
    context: typer.Context,
    revision: Annotated[int | None, typer.Option(help="Wait for this revision; the latest if unset.")] = None,
    network: NetworkFilter = None,
    timeout: Annotated[float, typer.Option(help="Give up after this many seconds.")] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Wait until a revision is in force on every host; name the lagging hosts if the time runs out."""
    from rich.console import Console
    from rich.status import Status

    api = _api(context)
    deadline = time.monotonic() + timeout
    with Status("", console=Console(stderr=True)) as progress:
        answer = api.get("/v1/convergence", revision=revision, network=network)
        revision = Fields(answer).number("revision")
        while answer["in_force"] != answer["total"] and (left := deadline - time.monotonic()) > 0:
            progress.update(f"revision {revision} is in force on {answer['in_force']} of {answer['total']} hosts")
            patience = min(left, WAIT_MAX)
            answer = api.get("/v1/convergence", revision=revision, network=network, wait=patience)
    lagging = [host for host in Fields(answer).objects("hosts") if host.has("lag")]
    if as_json:
        tables.show_json(answer)
    else:
        typer.echo(f"revision {revision} is in force on {answer['in_force']} of {answer['total']} hosts")
        for host in lagging:
            typer.echo(f"  {host.text('name')}: {host.text('lag')}", err=True)
    if lagging:
        raise typer.Exit(1)


def main() -> None:
    """Entry point of `overlayctl`."""
    try:
        app(standalone_mode=True)
    except OverlayError as error:
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True).print(Text.assemble(("error:", "bold red"), f" {error}"), soft_wrap=True)
        sys.exit(1)
