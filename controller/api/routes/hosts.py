"""Routes for hosts and what they report."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from controller.api.bodies import response_bodies
from controller.api.bodies.request_bodies import HostBody, HostPatch, ReportBody, StatementBody, WantedNetworkBody
from controller.api.bodies.response_bodies import (
    HostAnswer,
    HostStatusAnswer,
    HostStatusesAnswer,
    NetworkAnswer,
    RegisteredAnswer,
    RevisionAnswer,
    StatementAnswer,
)
from controller.api.http import etags
from controller.api.http.dependencies import By, Services
from controller.api.http.etags import Expected
from controller.api.http.paging import AskedPage
from controller.api.http.quick_route import QuickRoute
from controller.health.convergence import HostStatus
from overlayd.model import ids
from overlayd.model.host import HostState
from overlayd.model.ids import HostId, Revision
from overlayd.model.lineage import parse_lineage
from overlayd.wire import records
from overlayd.wire.fields import Json, parse_address

router = APIRouter(prefix="/v1/hosts", tags=["hosts"])


@router.get(
    "",
    summary="List hosts with their status",
    response_model=HostStatusesAnswer,
    responses=response_bodies.refusals(422),
)
async def list_hosts(
    overlay: Services,
    page: AskedPage,
    name: Annotated[str | None, Query(description="Only hosts of this name.", examples=["rack1-07"])] = None,
    state: Annotated[Literal["active", "draining", "forgetting"] | None, Query(description="Only such hosts.")] = None,
    connected: Annotated[bool | None, Query(description="Only hosts that are connected, or that are not.")] = None,
) -> JSONResponse:
    """List hosts by number."""
    found = [
        status
        for status in overlay.statuses.all()
        if name in (None, status.host.name)
        and state in (None, status.host.state.value)
        and connected in (None, status.presence is not None)
    ]
    return page.answer(found, lambda status: (status.host.number,), _shown, overlay.mirror.intent_revision)


@router.get(
    "/{id}",
    summary="Show a host with its status",
    response_model=HostStatusAnswer,
    responses=response_bodies.refusals(404, 422),
)
async def get_host(id: str, overlay: Services) -> JSONResponse:  # noqa: A002 - the path's own word
    status = overlay.statuses.get(HostId(id))
    return etags.answer(overlay, status.host, overlay.mirror.intent_revision, beside=response_bodies.heard(status))


@router.put(
    "/{id}",
    summary="Register a host",
    response_model=RegisteredAnswer,
    responses=response_bodies.refusals(409, 413, 422, 503),
)
async def register_host(id: str, body: HostBody, overlay: Services, by: By) -> JSONResponse:  # noqa: A002
    """Make a host known, or its new name or address. Its number and its blocks stay the same for ever.

    Refused (`already-exists`) when another host has the address, or another connected host the id.
    """
    address = parse_address(body.address, "address")
    number = None if body.number is None else ids.host_number(body.number)
    lineage = None if body.lineage is None else parse_lineage(body.lineage)
    await overlay.recovery.compare(by, ids.host_id(id), lineage, Revision(body.revision))
    written = await overlay.hosts.register(by, ids.host_id(id), body.name, address, body.instance, number)
    record = overlay.mirror.lineage
    beside: dict[str, Json] = {
        "lineage": str(record.lineage) if record else None,
        "settled": not overlay.recovery.is_under_way,
    }
    return etags.answer(overlay, written.result, written.revision, beside=beside)


@router.put(
    "/{id}/statement",
    summary="Send a host's statement to a store that may have been restored",
    response_model=StatementAnswer,
    responses=response_bodies.refusals(404, 413, 422, 503),
)
async def state(id: str, body: StatementBody, overlay: Services, by: By) -> JSONResponse:  # noqa: A002
    """Say what a host's containers use, after the store has got another lineage than the host knew.

    It becomes the host's again, or is withheld from others. The statement is the whole: what an earlier one named and
    this one does not is free.
    """
    disputes = await overlay.statements.take(by, ids.host_id(id), body.statement())
    return JSONResponse({"disputes": disputes, "revision": overlay.mirror.intent_revision})


@router.put(
    "/{id}/networks/{name}",
    summary="Make a network for a host, unless it exists",
    response_model=NetworkAnswer,
    responses=response_bodies.refusals(404, 409, 413, 422, 503),
)
async def want_network(
    id: str,  # noqa: A002
    name: str,
    body: WantedNetworkBody,
    overlay: Services,
    by: By,
) -> JSONResponse:
    """Return the network of this name. It is made if it is missing and the setting `host-networks` allows the host one.

    Refused (`already-exists`) when there is one that contradicts the body. Repeated, it is the same network.
    """
    written = await overlay.networks.create_for_host(by, ids.host_id(id), body.wanted(name))
    return etags.answer(overlay, written.result, written.revision)


@router.patch(
    "/{id}",
    summary="Drain or resume a host",
    response_model=HostAnswer,
    responses=response_bodies.refusals(404, 409, 412, 413, 422, 503),
    openapi_extra=response_bodies.MERGE_PATCH,
)
async def patch_host(id: str, body: HostPatch, overlay: Services, by: By, expected: Expected) -> JSONResponse:  # noqa: A002
    """Let a host get no more blocks and take no more containers; what it has, it keeps."""
    written = await overlay.hosts.update(by, HostId(id), HostState(body.state), expected)
    return etags.answer(overlay, written.result, written.revision)


@router.delete(
    "/{id}",
    summary="Forget a host",
    status_code=204,
    response_description="It is gone; its blocks, its number and its address are in quarantine for a while.",
    response_model=None,
    responses=response_bodies.refusals(404, 409, 412, 422, 503),
)
async def forget_host(id: str, overlay: Services, by: By, expected: Expected) -> Response:  # noqa: A002
    """Give back all that a host had which is gone for good; refused (`in-use`) while it is connected.

    After a 503 the controllers go on with it by themselves.
    """
    await overlay.hosts.forget(by, HostId(id), expected)
    return Response(status_code=204)


async def report(id: str, body: ReportBody, overlay: Services) -> JSONResponse:  # noqa: A002
    """Say which revision the host's kernel matches, and what cannot be. The host's feed must be open here."""
    overlay.connections.report(HostId(id), body.instance, Revision(body.revision), body.kept())
    return JSONResponse({"revision": overlay.mirror.intent_revision})


router.add_api_route(
    "/{id}/report",
    report,
    methods=["POST"],
    summary="Report the revision that a host's kernel matches",
    response_model=RevisionAnswer,
    responses=response_bodies.refusals(404, 409, 413, 422),
    route_class_override=QuickRoute,
)


def _shown(status: HostStatus) -> dict[str, Json]:
    return {**records.encode(status.host), **response_bodies.heard(status)}
