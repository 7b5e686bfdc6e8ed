"""The commands about reservations: addresses held for a name."""

from typing import Annotated

import typer

from overlayd.cli import tables
from overlayd.cli.access import api
from overlayd.cli.api import Document
from overlayd.configuration.help_pages import PlainGroup
from overlayd.wire.fields import Fields

app = typer.Typer(
    cls=PlainGroup, help="Reservations: addresses held for a name, which containers keep from host to host."
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Network = Annotated[str, typer.Argument(help="The network's name.")]
Name = Annotated[str, typer.Argument(help="The reservation's name.")]


@app.command("create")
def create(
    context: typer.Context,
    network: Network,
    name: Name,
    addresses: Annotated[
        list[str] | None,
        typer.Option("--address", metavar="IP", help="This address; may be repeated for the other family."),
    ] = None,
    families: Annotated[
        list[int] | None,
        typer.Option("--family", metavar="4|6", help="A free address of this family. Default: one of each."),
    ] = None,
    mac: Annotated[
        str | None, typer.Option(help="The MAC of the interface on every host. Default: a random one per attachment.")
    ] = None,
    shared: Annotated[
        bool,
        typer.Option("--shared", help="Let the address float among containers of a switched network (VRRP)."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create a reservation, which holds addresses of a network for a name."""
    body: Document = {"name": name, "addresses": [*(addresses or ())], "families": [*(families or ())], "mac": mac}
    body |= {"shared": True} if shared else {}
    made = api(context).post(f"/v1/networks/{network}/reservations", body)
    if as_json:
        tables.show_json(made)
    else:
        typer.echo(f"reservation {name} of network {network} has {_addresses(made)}")


@app.command("list")
def list_reservations(
    context: typer.Context,
    network: Annotated[str | None, typer.Argument(help="The network's name; all networks if unset.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the reservations of a network, or of all networks, with their holders."""
    controller = api(context)
    names = [network] if network is not None else [str(each["name"]) for each in controller.items("/v1/networks")]
    found = [each for name in names for each in controller.items(f"/v1/networks/{name}/reservations")]
    if as_json:
        tables.show_json(list(found))
        return
    hosts = {host["id"]: host["name"] for host in controller.items("/v1/hosts")} if found else {}
    rows = []
    for each in found:
        holder = Fields(each).object("holder") if each["holder"] else None
        who = (hosts.get(holder.text("host"), holder.text("host")), holder.text("container_id")) if holder else ("", "")
        rows.append((each["name"], each["network"], _addresses(each), each["mac"], *who))
    columns = ("name", "network", "addresses", "MAC", "host", "container")
    tables.show(tables.table("Reservations", columns, rows))


@app.command("show")
def show(context: typer.Context, network: Network, name: Name, as_json: AsJson = False) -> None:
    """Show a reservation and its holder."""
    found = api(context).get(f"/v1/networks/{network}/reservations/{name}")
    if as_json:
        tables.show_json(found)
        return
    mac = "each member's" if found.get("shared") else found["mac"] or "random"
    typer.echo(f"reservation {name} of network {network} has {_addresses(found)}, MAC {mac}")
    if not found["holder"]:
        typer.echo("no container holds it")
        return
    holder = Fields(found).object("holder")
    interface, container = holder.text("interface"), holder.text("container_id")
    typer.echo(f"{interface} of container {container} on host {holder.text('host')} holds it")


@app.command("release")
def release(context: typer.Context, network: Network, name: Name, as_json: AsJson = False) -> None:
    """Take a reservation from its container, whose endpoint is removed unless the reservation is shared."""
    controller, path = api(context), f"/v1/networks/{network}/reservations/{name}"
    found = controller.get(path)
    if found["holder"]:
        found = controller.post(f"{path}/release", Fields(found).object("holder").value)
    if as_json:
        tables.show_json(found)
    else:
        typer.echo(f"no container holds reservation {name} of network {network} now")


@app.command("delete")
def delete(context: typer.Context, network: Network, name: Name, as_json: AsJson = False) -> None:
    """Delete a reservation without a holder; its addresses are free after their quarantine."""
    api(context).delete(f"/v1/networks/{network}/reservations/{name}")
    if as_json:
        tables.show_json(None)
    else:
        typer.echo(f"reservation {name} of network {network} deleted")


def _addresses(reservation: Document) -> str:
    return ", ".join(Fields(reservation).texts("addresses"))
