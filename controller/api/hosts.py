"""Routes for hosts and what they report."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from controller.api import answers
from controller.api.answers import HostAnswer, HostStatusAnswer, HostStatusesAnswer, RevisionAnswer
from controller.api.bodies import HostBody, HostPatch, ReportBody
from controller.api.services import Services
from overlayd.model import ids
from overlayd.model.host import HostState
from overlayd.model.ids import HostId, Revision
from overlayd.wire import records
from overlayd.wire.fields import Fields

router = APIRouter(prefix="/v1/hosts", tags=["hosts"])


@router.get("", summary="List hosts with their status", response_model=HostStatusesAnswer)
async def list_hosts(overlay: Services) -> JSONResponse:
    statuses = sorted(overlay.statuses.all(), key=lambda status: status.host.number)
    items = ({**records.encode(status.host), **answers.heard(status)} for status in statuses)
    return answers.listing(items, overlay.mirror.intent_revision)


@router.get(
    "/{id}",
    summary="Show a host with its status",
    response_model=HostStatusAnswer,
    responses=answers.refusals(404, 422),
)
async def get_host(id: str, overlay: Services) -> JSONResponse:  # noqa: A002 - the path's own word
    status = overlay.statuses.get(HostId(id))
    return JSONResponse(
        {**records.encode(status.host), **answers.heard(status), "revision": overlay.mirror.intent_revision}
    )


@router.put(
    "/{id}",
    summary="Register a host",
    response_model=HostAnswer,
    responses=answers.refusals(409, 413, 422, 503),
)
async def register_host(id: str, body: HostBody, overlay: Services) -> JSONResponse:  # noqa: A002
    """Make a host known, or its new name or address. Its number and its blocks stay the same for ever.

    Refused (`already-exists`) when another host has the address, or another connected host the id.
    """
    address = Fields({"address": body.address}).ipv4("address")
    written = await overlay.hosts.register(ids.host_id(id), body.name, address, body.instance)
    return answers.record(written.result, written.revision)


@router.patch(
    "/{id}",
    summary="Drain a host, or let it be active again",
    response_model=HostAnswer,
    responses=answers.refusals(404, 409, 413, 422, 503),
)
async def patch_host(id: str, body: HostPatch, overlay: Services) -> JSONResponse:  # noqa: A002
    """Let a host get no more blocks and take no more containers; what it has, it keeps."""
    written = await overlay.hosts.update(HostId(id), HostState(body.state))
    return answers.record(written.result, written.revision)


@router.delete(
    "/{id}",
    summary="Forget a host",
    status_code=204,
    response_description="It is gone; its blocks, its number and its address are in quarantine for a while.",
    response_model=None,
    responses=answers.refusals(404, 409, 422, 503),
)
async def forget_host(id: str, overlay: Services) -> Response:  # noqa: A002
    """Give back all that a host had which is gone for good; refused (`in-use`) while it is connected.

    After a 503 the controllers go on with it by themselves.
    """
    await overlay.hosts.forget(HostId(id))
    return Response(status_code=204)


@router.post(
    "/{id}/report",
    summary="Report what a host has made true",
    response_model=RevisionAnswer,
    responses=answers.refusals(404, 409, 413, 422),
)
async def report(id: str, body: ReportBody, overlay: Services) -> JSONResponse:  # noqa: A002
    """Say which revision the host's kernel matches, and what cannot be. The host's feed must be open here."""
    overlay.connections.report(HostId(id), body.instance, Revision(body.revision), body.kept())
    return JSONResponse({"revision": overlay.mirror.intent_revision})
