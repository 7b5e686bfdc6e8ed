"""The commands that create, list and revoke tokens."""

import re
from enum import StrEnum
from typing import Annotated

import typer

from overlayd.cli import tables
from overlayd.cli.access import api
from overlayd.cli.api import Document
from overlayd.configuration.help_pages import PlainGroup
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted
from overlayd.wire.credentials import parse_token_id

app = typer.Typer(cls=PlainGroup, help="Tokens: credentials for users of the API, and for hosts that join.")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_TTL = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Role(StrEnum):
    """The permissions of a user or a program."""

    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"


@app.command("create")
def create(
    context: typer.Context,
    role: Annotated[Role | None, typer.Option(help="The permissions of the token's owner.")] = None,
    name: Annotated[str | None, typer.Option(help="The owner of the token, as the history names it.")] = None,
    join: Annotated[bool, typer.Option("--join", help="Create a token with which hosts join.")] = False,
    host: Annotated[
        str | None, typer.Option(help="Of a join token: only the host with this id may use it, also to join again.")
    ] = None,
    hosts: Annotated[
        int | None, typer.Option(metavar="N", help="Of a join token: how many hosts may use it; 1 if unset.")
    ] = None,
    ttl: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Lifetime: 90s, 30m, 24h, 7d. If unset, 1h for a join token; others last until they are revoked.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a token. It is printed once, alone on standard output."""
    body: Document = {"kind": "join" if join else "access"}
    for field, value in (("role", role), ("name", name), ("host", host)):
        if value is not None:
            body[field] = str(value)
    if hosts is not None:
        body["hosts"] = hosts
    if ttl is not None:
        body["ttl"] = seconds(ttl)
    made = api(context).post("/v1/tokens", body)
    if as_json:
        tables.show_json(made)
        return
    until = f"until {tables.moment(made['expires'])}" if made["expires"] else "until it is revoked"
    typer.echo(
        f"token {made['id']} ({made['name']}) is valid {until}{_for_hosts(made)}; it is shown this once:", err=True
    )
    typer.echo(made["token"])


@app.command("list")
def list_tokens(context: typer.Context, as_json: AsJson = False) -> None:
    """List tokens, also those that expired within the last day."""
    found = api(context).items("/v1/tokens")
    if as_json:
        tables.show_json(list(found))
        return
    rows = [
        (
            token["id"],
            token["kind"],
            token["name"],
            token["role"],
            "" if token["hosts"] is None else str(token["hosts"]),
            tables.moment(token["created"]),
            tables.moment(token["expires"]) or "never",
            token["by"],
        )
        for token in found
    ]
    tables.show(
        tables.table("Tokens", ("id", "kind", "name", "role", "hosts left", "made", "expires", "made by"), rows)
    )


@app.command("revoke")
def revoke(
    context: typer.Context,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The token's id, as `token list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Revoke a token. Open streams that use it end within seconds."""
    parse_token_id(token_id, "ID")
    api(context).delete(f"/v1/tokens/{token_id}")
    if as_json:
        tables.show_json(None)
    else:
        typer.echo(f"token {token_id} revoked")


def _for_hosts(made: Document) -> str:
    if made["hosts"] is None:
        return ""
    return ", for one host" if made["hosts"] == 1 else f", for {made['hosts']} hosts"


def seconds(text: str) -> int:
    """Read a time such as 90s, 30m, 24h or 7d; raise `InvalidValue`."""
    match = _TTL.fullmatch(text)
    if not match:
        raise InvalidValue(f"{quoted(text)} is not a time such as 90s, 30m, 24h or 7d", field="--ttl")
    return int(match[1]) * _UNITS[match[2]]
