"""`overlayd netns`: network namespaces that are attached, for units of systemd, nspawn, quadlet, and by hand."""

import json
import time
from collections.abc import Iterable
from typing import Annotated

import typer

from overlayd.agent.commands.local_commands import RUN_DIR, AsJson, reported
from overlayd.agent.control.client import ask
from overlayd.agent.netns.request import DIRECTORY, named_as_options, namespace_name, path_of
from overlayd.configuration import files
from overlayd.configuration.help_pages import PlainGroup
from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.spaces import namespaces
from overlayd.model.errors import NotFound, Unavailable
from overlayd.model.ids import ContainerId
from overlayd.wire.fields import Fields, Json

MADE = RUN_DIR / "netns"
"""The directory with an empty file for each namespace that `add` made: `delete` removes those, and no others."""

_RETRY = 1.0
"""Seconds between two attempts while the agent cannot attach for now."""

_COLUMNS = ("namespace", "network", "interface", "addresses", "mac", "ports")

app = typer.Typer(
    cls=PlainGroup,
    no_args_is_help=True,
    help="Namespaces: network namespaces for units of systemd, nspawn and quadlet, attached to networks.",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help=f"Name of the namespace: {DIRECTORY}/NAME.")]


@app.command()
def add(
    name: Name,
    network: Annotated[str, typer.Option("--network", metavar="NETWORK", help="Network to attach it to.")],
    interface: Annotated[
        str, typer.Option("--interface", metavar="INTERFACE", help="Name of the interface inside.")
    ] = "eth0",
    address: Annotated[
        list[str] | None,
        typer.Option("--address", metavar="ADDRESS", help="This address; at most one of each family."),
    ] = None,
    reservation: Annotated[
        list[str] | None,
        typer.Option("--reservation", metavar="RESERVATION", help="The addresses of this reservation."),
    ] = None,
    mac: Annotated[str | None, typer.Option("--mac", metavar="MAC", help="This MAC address.")] = None,
    publish: Annotated[
        list[str] | None,
        typer.Option(
            "--publish",
            metavar="[ADDRESS:]PORT:PORT[/PROTOCOL]",
            help="A port of the host that leads to a port of the namespace; tcp, udp or sctp.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label of the endpoint.")
    ] = None,
    alias: Annotated[
        list[str] | None, typer.Option("--alias", metavar="NAME", help="One more name of the endpoint.")
    ] = None,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", help="Try for so long while it cannot be attached for now.")
    ] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Attach a namespace to a network, and make it first unless it exists.

    A namespace that is in several networks needs an interface of another name for each. Options that take several
    values are repeated.
    """
    with reported():
        with named_as_options():
            checked = namespace_name(name)
        wanted: dict[str, Json] = {
            "namespace": checked,
            "network": network,
            "interface": interface,
            "address": list(address or ()),
            "reservation": list(reservation or ()),
            "mac": mac,
            "publish": list(publish or ()),
            "label": list(label or ()),
            "alias": list(alias or ()),
        }
        made = _make(checked)
        try:
            given = _attached(wanted, wait)
        except BaseException:
            if made:
                _remove_unused(checked)
            raise
    if as_json:
        typer.echo(json.dumps(given.value, indent=2))
        return
    addresses = ", ".join(given.texts("addresses"))
    typer.echo(f"{checked}: {given.text('interface')} in {network}: {addresses}, MAC {given.text('mac')}")


@app.command()
def delete(
    name: Name,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="Succeed when there is no such namespace.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Detach a namespace from all networks, and remove it if `add` made it.

    Without a running agent only the namespace is removed: the agent frees its addresses later.
    """
    with reported():
        with named_as_options():
            checked = namespace_name(name)
        detached, absence = _detached(checked)
        is_removed = files.exists(MADE / checked)
        if is_removed:
            _remove(checked)
        elif absence:
            raise absence
        elif not detached and not ignore_missing:
            raise NotFound(f"overlayd netns has attached no namespace {checked}: overlayd netns list shows them")
    if absence:
        typer.echo(f"overlayd: the addresses of {checked} are freed when the agent runs: {absence}", err=True)
    if as_json:
        typer.echo(json.dumps({"detached": detached, "removed": is_removed}, indent=2))


@app.command("list")
def list_namespaces(as_json: AsJson = False) -> None:
    """List the namespaces of this host that `add` has attached."""
    with reported():
        answer = ask("netns-list")
    if as_json:
        typer.echo(json.dumps(answer.value, indent=2))
        return
    rows = [[_cell(each, column) for column in _COLUMNS] for each in answer.objects("attachments")]
    for line in columns([[each.upper() for each in _COLUMNS], *rows]):
        typer.echo(line)


def columns(rows: Iterable[list[str]]) -> list[str]:
    """Return rows of cells as lines with aligned columns."""
    every = list(rows)
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in every]


def _cell(fields: Fields, column: str) -> str:
    return ",".join(fields.texts(column)) if column in {"addresses", "ports"} else fields.text(column)


def _make(name: ContainerId) -> bool:
    """Make a namespace; return False when there is one of this name. Raises `KernelError` and `OSError`."""
    ns = NamespaceRef(path_of(name))
    if namespaces.identity(ns) is not None:
        return False
    MADE.mkdir(mode=0o700, parents=True, exist_ok=True)
    (MADE / name).touch(mode=0o600)
    try:
        namespaces.create(ns)
    except BaseException:
        (MADE / name).unlink(missing_ok=True)
        raise
    return True


def _remove(name: ContainerId) -> None:
    """Remove a namespace that `add` made. Raises `KernelError` and `OSError`."""
    namespaces.delete(NamespaceRef(path_of(name)))
    (MADE / name).unlink(missing_ok=True)


def _remove_unused(name: ContainerId) -> None:
    """Remove a namespace that `add` made and could not attach, unless another `add` has attached it meanwhile."""
    try:
        attached = {each.text("namespace") for each in ask("netns-list").objects("attachments")}
    except Unavailable:
        attached = set()
    if name not in attached:
        _remove(name)


def _attached(wanted: dict[str, Json], wait: float) -> Fields:
    """Ask the agent to attach, again for this many seconds while it is unavailable; return its answer.

    Raises `InvalidValue` or, when the time is over, `Unavailable`.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            return ask("netns-attach", **wanted)
        except Unavailable:
            if time.monotonic() + _RETRY > deadline:
                raise
        time.sleep(_RETRY)


def _detached(name: ContainerId) -> tuple[list[Json], Unavailable | None]:
    """Ask the agent to detach; return what it detached, and why it could not if it could not."""
    try:
        return ask("netns-detach", namespace=name).items("detached"), None
    except Unavailable as absence:
        return [], absence
