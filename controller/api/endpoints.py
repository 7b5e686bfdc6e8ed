"""Routes for endpoints."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from controller.api import answers
from controller.api.answers import EndpointsAnswer, RevisionAnswer
from controller.api.bodies import EndpointBody, EndpointsBody, PublishBody
from controller.api.services import Services
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import HostId, NetworkName
from overlayd.wire import records

router = APIRouter(prefix="/v1", tags=["endpoints"])


@router.get("/endpoints", summary="List endpoints", response_model=EndpointsAnswer, responses=answers.refusals(422))
async def list_endpoints(overlay: Services, network: str | None = None, host: str | None = None) -> JSONResponse:
    """List all endpoints, or those of a network, of a host, or of both."""
    found = overlay.endpoints.select(
        None if network is None else NetworkName(network), None if host is None else HostId(host)
    )
    found.sort(key=lambda endpoint: endpoint.key)
    return answers.listing(map(records.encode, found), overlay.mirror.intent_revision)


@router.post(
    "/hosts/{id}/endpoints",
    summary="Publish changes of a host's endpoints",
    response_model=RevisionAnswer,
    responses=answers.refusals(404, 409, 413, 422, 503),
)
async def publish_endpoints(id: str, body: PublishBody, overlay: Services) -> JSONResponse:  # noqa: A002
    """Add, replace and remove endpoints of a host. Its addresses must be in blocks that the host owns."""
    puts = _endpoints(HostId(id), "puts", body.puts)
    deletes = [key.endpoint_key(HostId(id), f"deletes[{index}]") for index, key in enumerate(body.deletes)]
    written = await overlay.endpoints.publish(HostId(id), puts, deletes)
    return JSONResponse({"revision": written.revision})


@router.put(
    "/hosts/{id}/endpoints",
    summary="Replace all endpoints of a host",
    response_model=RevisionAnswer,
    responses=answers.refusals(404, 409, 413, 422, 503),
)
async def replace_endpoints(id: str, body: EndpointsBody, overlay: Services) -> JSONResponse:  # noqa: A002
    """Make these the only endpoints of a host, as its agent does when it starts."""
    written = await overlay.endpoints.replace(HostId(id), _endpoints(HostId(id), "endpoints", body.endpoints))
    return JSONResponse({"revision": written.revision})


def _endpoints(host: HostId, field: str, bodies: list[EndpointBody]) -> list[Endpoint]:
    return [body.endpoint(host, f"{field}[{index}]") for index, body in enumerate(bodies)]
