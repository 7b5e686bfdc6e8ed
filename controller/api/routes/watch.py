"""The route of the watch: what exists, and then every change, as JSON lines."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from controller.api.bodies import response_bodies
from controller.api.http.dependencies import Services
from controller.api.http.line_response import LineResponse
from controller.streams.watch_lines import WatchFilter
from overlayd.model.ids import NetworkName, Revision
from overlayd.wire import records

router = APIRouter(prefix="/v1", tags=["history"])


@router.get(
    "/watch",
    summary="Watch records change",
    response_model=None,
    responses={
        200: {"content": {"application/x-ndjson": {}}, "description": "JSON objects, one a line, without end."},
        **response_bodies.refusals(410, 422, 503),
    },
)
async def watch(
    overlay: Services,
    kind: Annotated[
        Literal["network", "host", "block", "endpoint", "reservation"] | None, Query(description="Only this kind.")
    ] = None,
    network: Annotated[str | None, Query(description="Only a network and what is in it.", examples=["blue"])] = None,
    after: Annotated[int | None, Query(ge=0, description="The revision that the reader knows.", examples=[42])] = None,
) -> LineResponse:
    """Stream every change as a `put` with the object or a `delete` with its key, each with its revision.

    Without `after` all objects come first, and then `in-sync`. A `bookmark` ends what belongs together, and comes at
    least every five seconds. With an `after` that is too old the answer is 410 (`compacted`): list again.
    """
    wanted = WatchFilter(records.KINDS[kind] if kind else None, None if network is None else NetworkName(network))
    prepared = await overlay.watches.prepare(wanted, None if after is None else Revision(after))
    return LineResponse(overlay.watches.open(prepared))
