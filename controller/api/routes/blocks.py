"""Routes for blocks."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from controller.api.bodies import response_bodies
from controller.api.bodies.request_bodies import AcquireBody
from controller.api.bodies.response_bodies import BlockAnswer, BlocksAnswer
from controller.api.http import etags
from controller.api.http.auth import CurrentCaller
from controller.api.http.dependencies import By, Services
from controller.api.http.paging import AskedPage, ListPosition
from controller.api.http.quick_route import QuickRoute
from overlayd.model.address import Family
from overlayd.model.block import Block
from overlayd.model.ids import HostId, NetworkName
from overlayd.wire import records
from overlayd.wire.fields import parse_cidr

router = APIRouter(prefix="/v1", tags=["blocks"])


@router.get("/blocks", summary="List blocks", response_model=BlocksAnswer, responses=response_bodies.refusals(422))
async def list_blocks(
    overlay: Services,
    page: AskedPage,
    network: Annotated[str | None, Query(description="Only of this network.", examples=["blue"])] = None,
    host: Annotated[str | None, Query(description="Only of the host with this id.", examples=["h-7f3a"])] = None,
    family: Annotated[Literal[4, 6] | None, Query(description="Only of this IP version.")] = None,
) -> JSONResponse:
    """List blocks by network and address."""
    found = overlay.blocks.select(
        None if network is None else NetworkName(network), None if host is None else HostId(host)
    )
    wanted = [block for block in found if family in (None, block.family)]
    return page.answer(wanted, _place, records.encode, overlay.mirror.intent_revision)


async def acquire_block(name: str, body: AcquireBody, overlay: Services, by: By, caller: CurrentCaller) -> JSONResponse:
    """Get a block for a host beside those that it holds. Asked again after a lost answer, it is the same block."""
    caller.must_be(body.host)
    family = Family(body.family) if body.family else None
    with overlay.turns.urgent():
        written = await overlay.blocks.acquire(by, NetworkName(name), HostId(body.host), body.held_blocks(), family)
    return etags.answer(overlay, written.result, written.revision)


router.add_api_route(
    "/networks/{name}/blocks",
    acquire_block,
    methods=["POST"],
    summary="Acquire a block",
    response_model=BlockAnswer,
    responses=response_bodies.refusals(404, 409, 413, 422, 503),
    route_class_override=QuickRoute,
)


@router.delete(
    "/networks/{name}/blocks/{cidr:path}",
    summary="Release a block",
    status_code=204,
    response_description="It is free.",
    response_model=None,
    responses=response_bodies.refusals(404, 409, 422, 503),
)
async def release_block(name: str, cidr: str, host: str, overlay: Services, by: By) -> Response:
    """Give back a block of a host; refused (`in-use`) while it publishes endpoints with addresses in it."""
    await overlay.blocks.release(by, NetworkName(name), parse_cidr(cidr, "cidr"), HostId(host))
    return Response(status_code=204)


def _place(block: Block) -> ListPosition:
    return block.network, block.family, int(block.cidr.network_address), block.cidr.prefixlen
