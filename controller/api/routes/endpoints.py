"""Routes for endpoints."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from controller.api.bodies import response_bodies
from controller.api.bodies.request_bodies import EndpointBody, EndpointsBody, EndpointSetBody, PublishBody
from controller.api.bodies.response_bodies import EndpointsAnswer, EndpointSetAnswer, PublishedAnswer
from controller.api.bodies.workload_filter import AskedWorkload
from controller.api.http.dependencies import By, Services
from controller.api.http.paging import AskedPage
from controller.api.http.quick_route import QuickRoute
from controller.journal.journal import Written
from controller.services.endpoints import Refusal
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import HostId, NetworkName
from overlayd.wire import records, refusals
from overlayd.wire.fields import parse_address

PARTS_MAX = 9_999
"""The highest number of a part."""

router = APIRouter(prefix="/v1", tags=["endpoints"])


@router.get(
    "/endpoints", summary="List endpoints", response_model=EndpointsAnswer, responses=response_bodies.refusals(422)
)
async def list_endpoints(
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


async def publish_endpoints(id: str, body: PublishBody, overlay: Services, by: By) -> JSONResponse:  # noqa: A002
    """Add, replace and remove endpoints of a host; removals come first.

    An endpoint is refused by itself, in the answer: of a network that does not exist, with an address in no block that
    the host owns, or with an address or a MAC that another one has in the network.
    """
    puts = _endpoints(HostId(id), "puts", body.puts)
    deletes = [key.endpoint_key(HostId(id), f"deletes[{index}]") for index, key in enumerate(body.deletes)]
    return _published(await overlay.endpoints.publish(by, HostId(id), puts, deletes))


router.add_api_route(
    "/hosts/{id}/endpoints",
    publish_endpoints,
    methods=["POST"],
    summary="Publish changes of a host's endpoints",
    response_model=PublishedAnswer,
    responses=response_bodies.refusals(404, 409, 413, 422, 503),
    route_class_override=QuickRoute,
)


@router.put(
    "/hosts/{id}/endpoints",
    summary="Replace all endpoints of a host",
    response_model=PublishedAnswer,
    responses=response_bodies.refusals(404, 409, 413, 422, 503),
)
async def replace_endpoints(id: str, body: EndpointsBody, overlay: Services, by: By) -> JSONResponse:  # noqa: A002
    """Make these the only endpoints of a host, as its agent does when it starts. More than fit come as a set."""
    return _published(
        await overlay.endpoints.replace(by, HostId(id), _endpoints(HostId(id), "endpoints", body.endpoints))
    )


@router.post(
    "/hosts/{id}/endpoint-sets",
    summary="Begin a set of all endpoints of a host",
    status_code=201,
    response_model=EndpointSetAnswer,
    responses=response_bodies.refusals(404, 413, 422),
)
async def begin_endpoint_set(id: str, body: EndpointSetBody, overlay: Services) -> JSONResponse:  # noqa: A002
    """Begin to send endpoints in parts, which change nothing until the set is published.

    All requests about a set go to one controller, which drops it after 30 seconds without any, or for another set of
    the same host.
    """
    return JSONResponse({"set": overlay.endpoint_sets.begin(overlay.hosts.get(HostId(id)).id, body.count)}, 201)


@router.put(
    "/hosts/{id}/endpoint-sets/{set}/parts/{part}",
    summary="Send a part of a set of endpoints",
    status_code=204,
    response_description="It is kept.",
    response_model=None,
    responses=response_bodies.refusals(404, 413, 422, 503),
)
async def add_to_endpoint_set(
    id: str,  # noqa: A002
    set: str,  # noqa: A002
    part: Annotated[int, Path(ge=0, le=PARTS_MAX, description="Its number; sent again, it replaces the first one.")],
    body: EndpointsBody,
    overlay: Services,
    request: Request,
) -> Response:
    """Keep some of the endpoints of a set."""
    size = len(await request.body())
    overlay.endpoint_sets.add(HostId(id), set, part, _endpoints(HostId(id), "endpoints", body.endpoints), size)
    return Response(status_code=204)


@router.post(
    "/hosts/{id}/endpoint-sets/{set}/publish",
    summary="Replace all endpoints of a host by a set",
    response_model=PublishedAnswer,
    responses=response_bodies.refusals(404, 409, 422, 503),
)
async def publish_endpoint_set(id: str, set: str, overlay: Services, by: By) -> JSONResponse:  # noqa: A002
    """Make the endpoints of a whole set the only ones of a host, as `PUT /v1/hosts/{id}/endpoints` does."""
    written = await overlay.endpoints.replace(by, HostId(id), overlay.endpoint_sets.whole(HostId(id), set))
    overlay.endpoint_sets.drop(HostId(id), set)
    return _published(written)


def _endpoints(host: HostId, field: str, bodies: list[EndpointBody]) -> list[Endpoint]:
    return [body.endpoint(host, f"{field}[{index}]") for index, body in enumerate(bodies)]


def _published(written: Written[tuple[Refusal, ...]]) -> JSONResponse:
    return JSONResponse(
        {
            "revision": written.revision,
            "refused": [refusals.encode(each.endpoint, each.error) for each in written.result],
        }
    )
