"""Routes for endpoints."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from controller.api import answers
from controller.api.answers import EndpointsAnswer, RevisionAnswer
from controller.api.bodies import EndpointBody, EndpointsBody, PublishBody
from controller.api.paging import AskedPage
from controller.api.services import Services
from controller.api.workloads import AskedWorkload
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import HostId, NetworkName
from overlayd.wire import records
from overlayd.wire.fields import parse_address

router = APIRouter(prefix="/v1", tags=["endpoints"])


@router.get("/endpoints", summary="List endpoints", response_model=EndpointsAnswer, responses=answers.refusals(422))
async def list_endpoints(  # noqa: PLR0913, PLR0917 - each parameter is one of the query
    overlay: Services,
    page: AskedPage,
    workload: AskedWorkload,
    network: Annotated[str | None, Query(description="Only of this network.", examples=["blue"])] = None,
    host: Annotated[str | None, Query(description="Only of the host with this id.", examples=["h-7f3a"])] = None,
    address: Annotated[str | None, Query(description="Only with this address.", examples=["10.32.0.5"])] = None,
    container_id: Annotated[str | None, Query(description="Only of this container.", examples=["8f2c"])] = None,
) -> JSONResponse:
    """List endpoints by network, host, container and interface."""
    found = overlay.endpoints.select(
        None if network is None else NetworkName(network), None if host is None else HostId(host)
    )
    wanted = None if address is None else parse_address(address, "address")
    kept = [
        endpoint
        for endpoint in found
        if (wanted is None or wanted in endpoint.addresses)
        and container_id in (None, endpoint.container_id)
        and workload.matches(endpoint.workload)
    ]
    return page.answer(kept, lambda endpoint: endpoint.key, records.encode, overlay.mirror.intent_revision)


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
