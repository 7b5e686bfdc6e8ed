"""Routes of the history: who changed what, and how it was."""

import math
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from controller.api.bodies import response_bodies
from controller.api.http.dependencies import Services
from controller.api.http.paging import AskedPage
from controller.overlay import Overlay
from controller.past.archive import PastChange, Search
from controller.past.subjects import Subject
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted
from overlayd.wire.fields import Json, parse_address

router = APIRouter(prefix="/v1/history", tags=["history"])

Kind = Literal["network", "host", "block", "endpoint", "reservation", "token"]

_Kind = Annotated[Kind | None, Query(description="Only objects of this kind.")]
_Network = Annotated[str | None, Query(description="A network, and what is in it.", examples=["blue"])]
_Host = Annotated[str | None, Query(description="A host, by id or name, and what is on it.", examples=["rack1-07"])]
_Address = Annotated[
    str | None,
    Query(
        description="The endpoint or reservation that has it, and the block that contains it.", examples=["10.32.0.5"]
    ),
]
_Container = Annotated[str | None, Query(description="A container's id.", examples=["8f2c"])]
_Name = Annotated[str | None, Query(description="The name of a network, host, reservation or token.", examples=["db"])]
_Time = Annotated[str, Field(examples=["2026-11-21T14:02:00Z"])]


class ActorAnswer(BaseModel):
    """Who made a change: the name of a token, or a controller; and in which role."""

    name: str
    role: str


class ChangeAnswer(BaseModel):
    """One object that one transaction changed."""

    revision: int
    time: _Time
    actor: ActorAnswer
    kind: Kind
    before: Annotated[dict[str, object] | None, Field(description="Null: it did not exist.")]
    after: Annotated[dict[str, object] | None, Field(description="Null: it does not exist any more.")]


class ChangesAnswer(BaseModel):
    """Changes, newest first."""

    items: list[ChangeAnswer]
    next: Annotated[str | None, Field(description="What to pass as `after` for earlier changes; null: there are none.")]
    complete_since: Annotated[
        _Time | None, Field(description="Older changes may have been forgotten; null: none were.")
    ]


class PastObjectAnswer(BaseModel):
    """An object as it was."""

    kind: Kind
    object: dict[str, object]


class PastAnswer(BaseModel):
    """Objects as they were at one time."""

    items: list[PastObjectAnswer]
    next: Annotated[str | None, Field(description="What to pass as `after` for the next page; null: this is the last.")]
    time: _Time
    complete: Annotated[bool, Field(description="False: the history does not reach back that far any more.")]


@router.get(
    "", summary="List changes, newest first", response_model=ChangesAnswer, responses=response_bodies.refusals(422, 503)
)
async def list_changes(
    overlay: Services,
    kind: _Kind = None,
    network: _Network = None,
    host: _Host = None,
    address: _Address = None,
    container: _Container = None,
    name: _Name = None,
    actor: Annotated[str | None, Query(description="Only what this actor changed.", examples=["alice"])] = None,
    since: Annotated[str | None, Query(description="RFC 3339.", examples=["2026-11-21T14:02:00Z"])] = None,
    until: Annotated[str | None, Query(description="RFC 3339.", examples=["2026-11-21T15:00:00Z"])] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str, Query(max_length=100, description="The `next` of the page before.")] = "",
) -> JSONResponse:
    """List which objects changed, when, who changed them, and how they were before and after."""
    search = Search(
        await _subject(overlay, kind, network, host, address, container, name),
        actor,
        None if since is None else _seconds(since, "since"),
        None if until is None else _seconds(until, "until"),
    )
    found = await overlay.archive.changes(search, after, limit + 1)
    begins = await overlay.archive.begins()
    return JSONResponse(
        {
            "items": [_change(change) for change in found[:limit]],
            "next": found[limit - 1].place if len(found) > limit else None,
            "complete_since": _time(begins) if begins else None,
        }
    )


@router.get(
    "/at", summary="Show objects as they were", response_model=PastAnswer, responses=response_bodies.refusals(422, 503)
)
async def show_past(
    overlay: Services,
    page: AskedPage,
    time: Annotated[str, Query(description="RFC 3339.", examples=["2026-11-21T14:02:00Z"])],
    kind: _Kind = None,
    network: _Network = None,
    host: _Host = None,
    address: _Address = None,
    container: _Container = None,
    name: _Name = None,
) -> JSONResponse:
    """Tell what an address mapped to, who had a block, how a network was, at some time."""
    moment = _seconds(time, "time")
    subject = await _subject(overlay, kind, network, host, address, container, name)
    past = await overlay.archive.at(subject, moment)
    shown, following = page.of(past.objects, lambda found: found.identity)
    items: list[Json] = [{"kind": found.kind, "object": found.form} for found in shown]
    return JSONResponse({"items": items, "next": following, "time": _time(moment), "complete": past.complete})


async def _subject(
    overlay: Overlay,
    kind: str | None,
    network: str | None,
    host: str | None,
    address: str | None,
    container: str | None,
    name: str | None,
) -> Subject:
    wanted = None if address is None else parse_address(address, "address")
    hosts = {host, *(await overlay.archive.hosts_called(host))} if host is not None else set()
    return Subject(kind, network, frozenset(hosts), wanted, container, name)


def _change(change: PastChange) -> dict[str, Json]:
    return {
        "revision": change.revision,
        "time": _time(change.at),
        "actor": {"name": change.by.name, "role": change.by.role},
        "kind": change.kind,
        "before": change.before,
        "after": change.after,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _seconds(text: str, field: str) -> float:
    """Read a time with its offset from UTC (RFC 3339, section 5.6)."""
    try:
        moment = datetime.fromisoformat(text)
        seconds = moment.timestamp() if moment.tzinfo else math.nan
    except (ValueError, OverflowError):
        seconds = math.nan
    if math.isnan(seconds):
        raise InvalidValue(f"{quoted(text)} is not a time such as 2026-11-21T14:02:00Z", field=field)
    return seconds
