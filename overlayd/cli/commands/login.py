"""The commands `login`, `logout` and `whoami`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from overlayd.agent.controllers.trust import Trust, fetch_authority
from overlayd.cli import tables
from overlayd.cli.access import SavedLogin, api, load_login, login_file, read_authority, save_login
from overlayd.cli.api import Api, Document
from overlayd.configuration.controller_urls import check_url
from overlayd.configuration.token_file import read_token
from overlayd.model.errors import InvalidValue
from overlayd.wire.credentials import AccessToken, parse_access_token, parse_fingerprint

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="URL of a controller, https only.")],
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="A file with the token; standard input if unset."),
    ] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="SHA-256 of the authority's certificate; the controller logs it."),
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The authority's certificate: ca.pem beside the store.")
    ] = None,
    system_ca: Annotated[
        bool, typer.Option("--system-ca", help="The controllers' certificate is one that this system trusts.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Log in: save a token, and how to authenticate the controllers, for later commands."""
    check_url(url, "URL")
    url = url.rstrip("/")
    if not url.startswith("https://"):
        raise InvalidValue(f"{url} is without TLS: no login is needed there, and a token is never sent", field="URL")
    authority = _authority(url, fingerprint, ca, system_ca=system_ca)
    token = _token(token_file)
    me = Api(url, Trust(authority), token).get("/v1/whoami")
    path = save_login(SavedLogin(url, token, authority))
    if as_json:
        tables.show_json(me)
    else:
        typer.echo(f"logged in at {url} as {me['name']} ({me['role']}); the login is in {path}")


def logout(as_json: AsJson = False) -> None:
    """Delete the saved login. The token stays valid until an administrator revokes it."""
    known = load_login()
    login_file().unlink(missing_ok=True)
    if as_json:
        tables.show_json({"token": known.token.id if known else None})
    elif known:
        typer.echo(f"logged out; the token {known.token.id} stays valid until it is revoked")
    else:
        typer.echo("not logged in")


def whoami(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the name and the role of the saved login."""
    me = api(context).get("/v1/whoami")
    if as_json:
        tables.show_json(me)
    else:
        typer.echo(_line(me))


def _line(me: Document) -> str:
    until = f", until {tables.moment(me['expires'])}" if me["expires"] else ""
    return f"{me['name']} ({me['role']}){until}"


def _authority(url: str, fingerprint: str | None, ca: Path | None, *, system_ca: bool) -> str | None:
    if (fingerprint is not None) + (ca is not None) + system_ca != 1:
        raise InvalidValue(
            "choose how the controller is authenticated, by one of --fingerprint (the controller logs it at its start),"
            " --ca (the file ca.pem beside its store) and --system-ca",
            field="login",
        )
    if fingerprint is not None:
        return fetch_authority(url, parse_fingerprint(fingerprint, "--fingerprint"), "--fingerprint")
    return read_authority(ca) if ca else None


def _token(path: Path | None) -> AccessToken:
    if path is None and sys.stdin.isatty():
        return parse_access_token(typer.prompt("Token", hide_input=True, err=True).strip())
    return parse_access_token(
        read_token(path or Path("-"), "--token-file"), "--token-file" if path else "standard input"
    )
