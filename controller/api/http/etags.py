"""Optimistic concurrency: an object's entity tag is the revision that wrote it last (RFC 9110, section 8.8.3)."""

import re
from typing import Annotated

from fastapi import Depends, Header, Response
from fastapi.responses import JSONResponse

from controller.overlay import Overlay
from controller.state import keys
from overlayd.model.cluster import Record
from overlayd.model.errors import InvalidValue, Stale
from overlayd.model.ids import Revision, quoted
from overlayd.wire import records
from overlayd.wire.fields import Json

_TAG = re.compile(r'"([0-9]{1,18})"', re.ASCII)


# Dependencies are coroutines though none waits: FastAPI calls a plain function in a thread, which costs far more.


async def _expected(
    if_match: Annotated[
        str | None, Header(description="The `ETag` that the change was made for.", examples=['"42"'])
    ] = None,
) -> Revision | None:
    """Return the revision that the object must have; None for any. Raises `InvalidValue`."""
    if if_match is None or if_match.strip() == "*":
        return None
    return _revision(if_match, "If-Match")


async def _known(
    if_none_match: Annotated[
        str | None, Header(description="The `ETag` that the reader knows.", examples=['"42"'])
    ] = None,
) -> frozenset[str]:
    """Return the tags that the reader has; weak ones match too (RFC 9110, section 13.1.2)."""
    return frozenset(tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(","))


async def _absent(
    if_none_match: Annotated[
        str | None, Header(description="`*`: only if there is no such object yet.", examples=["*"])
    ] = None,
) -> bool:
    """Return whether the object must not exist yet; raise `InvalidValue`."""
    if if_none_match is None:
        return False
    if if_none_match.strip() != "*":
        raise InvalidValue(f"{quoted(if_none_match)} is not *", field="If-None-Match")
    return True


Expected = Annotated[Revision | None, Depends(_expected)]
"""The revision of the object that the request is about, as `If-Match` has it."""

Known = Annotated[frozenset[str], Depends(_known)]
"""The tags of `If-None-Match` of a reader."""

MustBeNew = Annotated[bool, Depends(_absent)]
"""Whether `If-None-Match` forbids to replace an object."""


def refuse_replacing() -> Stale:
    """Return the error for a request that may only create an object which exists."""
    return Stale("it exists already", field="If-None-Match")


def answer(
    overlay: Overlay, found: Record, revision: Revision, status: int = 200, beside: dict[str, Json] | None = None
) -> JSONResponse:
    """Answer one record with its tag, and with additional fields."""
    response = JSONResponse({**records.encode(found), **(beside or {}), "revision": revision}, status)
    key = keys.of(found)
    if overlay.mirror.record(key) == found:  # not changed again in between
        response.headers["ETag"] = _tag(overlay.mirror.mod_revision(key))
    return response


def answer_reader(overlay: Overlay, found: Record, known: frozenset[str]) -> Response:
    """Answer one record, or 304 when the reader has this state of it."""
    tag = _tag(overlay.mirror.mod_revision(keys.of(found)))
    if known & {tag, "*"}:
        return Response(status_code=304, headers={"ETag": tag})
    return answer(overlay, found, overlay.mirror.intent_revision)


def _tag(revision: Revision) -> str:
    return f'"{revision}"'


def _revision(text: str, header: str) -> Revision:
    match = _TAG.fullmatch(text.strip())
    if match is None:
        raise InvalidValue(f'{quoted(text)} is no entity tag such as "42"', field=header)
    return Revision(int(match[1]))
