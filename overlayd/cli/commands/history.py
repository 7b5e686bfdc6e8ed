"""`overlayctl history`: who changed which objects, and their state at an earlier time."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from overlayd.cli import tables
from overlayd.cli.access import api
from overlayd.cli.api import Api, Document
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted
from overlayd.wire.fields import Fields, Json

_PAGE = 500
"""The number of items in one request."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

_IDENTITY = {
    "network": ("name",),
    "host": ("name",),
    "block": ("network", "cidr"),
    "endpoint": ("network", "container_id", "interface"),
    "reservation": ("network", "name"),
    "token": ("name",),
}
"""The fields that name an object of each kind."""

_WHEN = 'a time such as 2026-11-21T14:02 (local) or …Z (UTC), or how long ago: 90s, 10m, "2h ago", 7d'


def history(  # each option is an argument
    context: typer.Context,
    kind: Annotated[str | None, typer.Option(help="Only this kind: network, host, block, endpoint …")] = None,
    network: Annotated[str | None, typer.Option(help="A network and everything in it.")] = None,
    host: Annotated[str | None, typer.Option(help="A host, by id or name, and everything on it.")] = None,
    address: Annotated[
        str | None, typer.Option(help="The objects that have this address, and the block that contains it.")
    ] = None,
    container: Annotated[str | None, typer.Option(help="A container's id.")] = None,
    name: Annotated[str | None, typer.Option(help="The name of a network, host, reservation or token.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this actor changed.")] = None,
    since: Annotated[str | None, typer.Option(help=f"Changes since then: {_WHEN}.")] = None,
    until: Annotated[str | None, typer.Option(help="Changes until then.")] = None,
    at: Annotated[str | None, typer.Option(help="Show the objects at that time instead of changes.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show only the newest N changes.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show who changed what and when; with --at, the state at a time."""
    subject = {
        "kind": kind,
        "network": network,
        "host": host,
        "address": address,
        "container": container,
        "name": name,
    }
    if at is not None:
        if actor or since or until:
            raise InvalidValue("cannot be combined with --actor, --since or --until", field="--at")
        _show_past(_whole(api(context), "/v1/history/at", None, time=moment(at, "--at"), **subject), as_json=as_json)
        return
    span = {
        "since": None if since is None else moment(since, "--since"),
        "until": None if until is None else moment(until, "--until"),
    }
    found = _whole(api(context), "/v1/history", limit, actor=actor, **span, **subject)
    if as_json:
        tables.show_json(found)
        return
    rows = [_row(change) for change in Fields(found).objects("items")]
    tables.show(tables.table("changes", ("time", "revision", "actor", "what", "change"), rows))
    if found["complete_since"]:
        typer.echo(f"the history is complete since {_local(str(found['complete_since']))}")


def _whole(controller: Api, path: str, limit: int | None, **params: str | None) -> Document:
    """Return an answer with the items of all its pages, or the first `limit` of them."""
    items: list[Json] = []
    after: str | None = None
    while True:
        wanted = _PAGE if limit is None else min(_PAGE, limit - len(items))
        page = Fields(controller.get(path, limit=wanted, after=after, **params))
        items += page.items("items")
        if not page.has("next") or len(items) == limit:
            return {**page.value, "items": items}
        after = page.text("next")


def moment(text: str, option: str) -> str:
    """Return a time, given as date and time or as a duration before now, in the API's form; raise `InvalidValue`."""
    ago = text.removesuffix("ago").rstrip()
    number, unit = ago[:-1], ago[-1:]
    try:
        if unit in _UNITS and number:
            return _rfc3339(datetime.now(UTC) - timedelta(seconds=float(number) * _UNITS[unit]))
        return _rfc3339(datetime.fromisoformat(text).astimezone(UTC))
    except (ValueError, OverflowError):
        raise InvalidValue(f"{quoted(text)} is not {_WHEN}", field=option) from None


def _rfc3339(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def _local(text: str) -> str:
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _show_past(found: Document, *, as_json: bool) -> None:
    if as_json:
        tables.show_json(found)
        return
    rows = []
    for item in Fields(found).objects("items"):
        kind, form = item.text("kind"), item.object("object").value
        rows.append((f"{kind} {_identity(kind, form)}", _words(kind, form)))
    tables.show(tables.table(f"objects at {_local(str(found['time']))}", ("what", "how it was"), rows))
    if not found["complete"]:
        typer.echo("the history does not reach back that far: objects that were deleted since may be missing", err=True)


def _row(change: Fields) -> tuple[object, ...]:
    kind = change.text("kind")
    before = change.object("before").value if change.has("before") else None
    after = change.object("after").value if change.has("after") else None
    actor = change.object("actor").text("name")
    what = f"{kind} {_identity(kind, after or before or {})}"
    return (_local(change.text("time")), change.number("revision"), actor, what, _difference(kind, before, after))


def _identity(kind: str, form: Document) -> str:
    return " ".join(str(form.get(field, "")) for field in _IDENTITY.get(kind, ("name",)))


def _difference(kind: str, before: Document | None, after: Document | None) -> str:
    if before is None:
        return f"made: {_words(kind, after or {})}"
    if after is None:
        return f"gone: {_words(kind, before)}"
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return (
        "; ".join(f"{name}: {_text(before.get(name))} → {_text(after.get(name))}" for name in changed)
        or "written again"
    )


def _words(kind: str, form: Document) -> str:
    named = _IDENTITY.get(kind, ("name",))
    return ", ".join(
        f"{name} {_text(value)}" for name, value in form.items() if name not in named and value not in (None, [])
    )


def _text(value: Json) -> str:
    match value:
        case None:
            return "none"
        case list():
            return " ".join(_text(item) for item in value)
        case dict():
            return " ".join(_text(item) for item in value.values())
        case _:
            return str(value)
