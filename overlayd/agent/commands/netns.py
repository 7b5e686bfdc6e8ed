"""`overlayd netns`: network namespaces that are attached, for units of systemd, nspawn, quadlet, and by hand."""

import json
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Annotated

import typer

from overlayd.agent.commands import made_namespaces
from overlayd.agent.commands.local_commands import AsJson, reported
from overlayd.agent.commands.unfinished_adds import UnfinishedAdd
from overlayd.agent.control.client import ask
from overlayd.agent.netns.request import DIRECTORY, named_as_options, namespace_name
from overlayd.configuration.help_pages import PlainGroup
from overlayd.model.errors import NotFound, OverlayError, Unavailable
from overlayd.model.ids import ContainerId
from overlayd.wire.fields import Fields, Json

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
        with _interruptible(), made_namespaces.alone(checked):
            given = _added(checked, wanted, wait)
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
        with made_namespaces.alone(checked):
            detached, absence = _detached(checked)
            is_removed = made_namespaces.is_made(checked)
            if is_removed:
                made_namespaces.remove(checked)
            made_namespaces.forget(checked)
        if absence and not is_removed:
            raise absence
        if not (is_removed or detached or ignore_missing):
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


def _added(name: ContainerId, wanted: dict[str, Json], wait: float) -> Fields:
    """Make a namespace unless it exists, and attach it; return the agent's answer. A failure leaves nothing behind.

    What a command left that was killed counts as made by this one, or is undone.
    """
    note = made_namespaces.unfinished_add(name)
    with named_as_options():
        is_new = made_namespaces.make(name)
    left = note.left()
    if left and left.flag("is_new_namespace"):
        is_new = is_new or made_namespaces.is_made(name)
    attempts = Attempts(wanted, note, is_new=is_new)
    try:
        given = attempts.attached(wait)
        note.end()
    except BaseException:
        attempts.undo()
        if is_new:
            made_namespaces.remove(name)
        raise
    return given


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let the signals of a service manager and of a terminal that is closed undo what the block did, as Ctrl-C does.

    One that is ignored, as nohup has it, stays so.
    """

    def end(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    ending = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    for each in ending:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each in ending:
            signal.signal(each, signal.SIG_DFL)


class Attempts:
    """The attempts to attach a namespace, again while the agent is unavailable, and their undoing.

    The agent may attach it and end before it answers. What was attached before the first attempt is not touched, unless
    the namespace `is_new`: then it was in another one of that name, which is gone. The agent cannot always tell, as
    the kernel gives a new namespace the number of an old one. `note` is for the next command, if this one is killed.
    """

    def __init__(self, wanted: dict[str, Json], note: UnfinishedAdd, *, is_new: bool) -> None:
        self._wanted = wanted
        self._note = note
        self._name = {key: wanted[key] for key in ("namespace", "network", "interface")}
        self._is_new_namespace = is_new
        self._is_ours = False

    def attached(self, wait: float) -> Fields:
        """Attach, and try again for this many seconds while that fails for now; return the agent's answer.

        Raises `InvalidValue` or, when the time is over, `Unavailable`.
        """
        deadline = time.monotonic() + wait
        while True:
            try:
                self._prepare()
                return ask("netns-attach", **self._wanted)
            except Unavailable:
                if time.monotonic() + _RETRY > deadline:
                    raise
            time.sleep(_RETRY)

    def undo(self) -> None:
        """Detach what an attempt may have attached; without an agent nothing is done."""
        if self._is_ours:
            with suppress(OverlayError):
                ask("netns-withdraw", **self._name)
                self._note.end()

    def _prepare(self) -> None:
        """See to it that an attempt finds nothing that an earlier one made; raise as `ask` does."""
        if self._is_ours:
            ask("netns-withdraw", **self._name)
        elif self._is_new_namespace:
            ask("netns-detach", namespace=self._name["namespace"])
            self._begin()
        else:
            if left := self._note.left():
                ask("netns-withdraw", **{key: left.text(key) for key in self._name})
                self._note.end()
            before = ask("netns-list").objects("attachments")
            if not any({key: each.value.get(key) for key in self._name} == self._name for each in before):
                self._begin()

    def _begin(self) -> None:
        """Let what is attached from now on be undone, by this command or by the next one."""
        self._note.begin({**self._name, "is_new_namespace": self._is_new_namespace})
        self._is_ours = True


def _detached(name: ContainerId) -> tuple[list[Json], Unavailable | None]:
    """Ask the agent to detach; return what it detached, and why it could not if it could not."""
    try:
        return ask("netns-detach", namespace=name).items("detached"), None
    except Unavailable as absence:
        return [], absence
