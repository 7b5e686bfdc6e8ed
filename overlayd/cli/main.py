"""The program `overlayctl`: its options, and the commands about the whole cluster and about this host."""

import sys
import time
from typing import Annotated

import typer

from overlayd.agent.control.client import ask, plan_lines, status_lines
from overlayd.cli import tables
from overlayd.cli.access import CaOption, ControllerOption, Given, TokenFileOption
from overlayd.cli.access import api as _api
from overlayd.cli.commands import capacity, endpoints, history, hosts, login, networks, reservations, tokens, watch
from overlayd.configuration.help_pages import PlainGroup
from overlayd.model.errors import OverlayError
from overlayd.wire.fields import Fields

WAIT_MAX = 5.0
"""Seconds that a controller waits for the hosts in one request; longer waits take several requests."""

app = typer.Typer(
    cls=PlainGroup,
    help="Administer the overlayd VXLAN network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(networks.app, name="network", no_args_is_help=True)
app.add_typer(hosts.app, name="host", no_args_is_help=True)
app.add_typer(reservations.app, name="reservation", no_args_is_help=True)
app.add_typer(endpoints.app, name="endpoint", no_args_is_help=True)
app.add_typer(tokens.app, name="token", no_args_is_help=True)
app.command("history")(history.history)
app.command("capacity")(capacity.show)
app.command("watch")(watch.watch)
app.command("login")(login.login)
app.command("logout")(login.logout)
app.command("whoami")(login.whoami)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
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
