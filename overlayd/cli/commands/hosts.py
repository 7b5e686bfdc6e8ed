"""The commands about hosts: listing, showing, draining and forgetting them."""

from collections.abc import Iterable
from typing import Annotated

import typer

from overlayd.cli import tables
from overlayd.cli.access import api
from overlayd.cli.api import Api, Document
from overlayd.configuration.help_pages import PlainGroup
from overlayd.model.errors import InvalidValue, NotFound
from overlayd.model.ids import quoted
from overlayd.wire.fields import Fields

app = typer.Typer(cls=PlainGroup, help="Hosts: the machines on which an agent runs.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
HostArgument = Annotated[str, typer.Argument(metavar="HOST", help="The host's id, or its name if only one has it.")]


@app.command("list")
def list_hosts(context: typer.Context, as_json: AsJson = False) -> None:
    """List all hosts with their connection and their problems."""
    hosts = api(context).items("/v1/hosts")
    if as_json:
        tables.show_json(list(hosts))
        return
    rows = [
        (
            host["name"],
            host["number"],
            host["address"],
            _state(host),
            host["applied"],
            _problems(host),
            host["id"],
        )
        for host in hosts
    ]
    columns = ("name", "number", "VTEP", "state", "revision", "problems", "id")
    tables.show(tables.table("Hosts", columns, rows))


@app.command("show")
def show_host(context: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Show a host and its problems, one per line."""
    found = _find(api(context), host)
    if as_json:
        tables.show_json(found)
        return
    typer.echo(f"host {found['name']} ({found['id']}) is {_state(found)}")
    applied = "no revision is reported" if found["applied"] is None else f"revision {found['applied']} is in force"
    typer.echo(f"number {found['number']}, VTEP {found['address']}, {applied}")
    typer.echo(_problems(found) or "no problems")


@app.command("drain")
def drain(context: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Drain a host: it accepts no new containers and gets no new blocks, and keeps those that it has."""
    _set_state(context, host, "draining", as_json=as_json)


@app.command("resume")
def resume(context: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Let a draining host accept containers again."""
    _set_state(context, host, "active", as_json=as_json)


@app.command("forget")
def forget(context: typer.Context, host: HostArgument, as_json: AsJson = False) -> None:
    """Release the blocks, the reservations and the credential of a host that is gone for good."""
    controller = api(context)
    found = _find(controller, host)
    controller.delete(f"/v1/hosts/{found['id']}")
    if as_json:
        tables.show_json(None)
    else:
        typer.echo(f"host {found['name']} ({found['id']}) is forgotten; its blocks are free after their quarantine")


def _set_state(context: typer.Context, host: str, state: str, *, as_json: bool) -> None:
    controller = api(context)
    changed = controller.patch(f"/v1/hosts/{_find(controller, host)['id']}", {"state": state})
    if as_json:
        tables.show_json(changed)
    else:
        typer.echo(f"host {changed['name']} ({changed['id']}) is {changed['state']}")


def _find(controller: Api, host: str) -> Document:
    """Return the host with an id or a name; raise `NotFound`, or `InvalidValue` when several have the name."""
    hosts = controller.items("/v1/hosts")
    found = [each for each in hosts if each["id"] == host] or [each for each in hosts if each["name"] == host]
    if not found:
        raise NotFound(f"there is no host {quoted(host)}", field="HOST")
    if len(found) > 1:
        ids = ", ".join(str(each["id"]) for each in found)
        raise InvalidValue(f"{quoted(host)} is the name of several hosts: {ids}; give the id", field="HOST")
    return found[0]


def _state(host: Document) -> str:
    connected = "connected" if host["connected"] else "not connected"
    return connected if host["state"] == "active" else f"{host['state']}, {connected}"


def _problems(status: Document) -> str:
    problems: Iterable[Fields] = Fields(status).objects("problems")
    return "\n".join(f"{problem.text('object')}: {problem.text('message')}" for problem in problems)
