"""Routes for networks."""

from dataclasses import replace

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from controller.api import answers
from controller.api.answers import NetworkAnswer, NetworksAnswer
from controller.api.bodies import NetworkBody, NetworkPatch, pools_of, reserved_of
from controller.api.services import Services
from overlayd.model import ids
from overlayd.model.ids import NetworkName, Vni
from overlayd.model.network import Network, Topology
from overlayd.wire import records

router = APIRouter(prefix="/v1/networks", tags=["networks"])


@router.get("", summary="List networks", response_model=NetworksAnswer)
async def list_networks(overlay: Services) -> JSONResponse:
    networks = sorted(overlay.networks.all(), key=lambda network: network.name)
    return answers.listing(map(records.encode, networks), overlay.mirror.intent_revision)


@router.post(
    "",
    summary="Make a network",
    status_code=201,
    response_model=NetworkAnswer,
    responses=answers.refusals(409, 413, 422, 503),
)
async def create_network(body: NetworkBody, overlay: Services) -> JSONResponse:
    """Give a network its name, its VNI and its range. Hosts join it when a container does."""
    vni = None if body.vni is None else Vni(body.vni)
    written = await overlay.networks.create(
        ids.network_name(body.name), pools_of(body.pools), Topology(body.topology), vni, reserved_of(body.reserved)
    )
    return answers.record(written.result, written.revision, 201)


@router.get("/{name}", summary="Show a network", response_model=NetworkAnswer, responses=answers.refusals(404, 422))
async def get_network(name: str, overlay: Services) -> JSONResponse:
    return answers.record(overlay.networks.get(NetworkName(name)), overlay.mirror.intent_revision)


@router.patch(
    "/{name}",
    summary="Change a network's ranges",
    response_model=NetworkAnswer,
    responses=answers.refusals(404, 409, 413, 422, 503),
)
async def patch_network(name: str, body: NetworkPatch, overlay: Services) -> JSONResponse:
    """Add ranges while hosts use the network, take empty ones away, and change what is reserved.

    Refused (`in-use`) when a host or a reservation has something in what would go.
    """

    def change(found: Network) -> Network:
        given = body.model_fields_set
        pools = pools_of(body.pools, found.pools) if "pools" in given else found.pools
        return replace(
            found, pools=pools, reserved=reserved_of(body.reserved) if "reserved" in given else found.reserved
        )

    written = await overlay.networks.update(NetworkName(name), change)
    return answers.record(written.result, written.revision)


@router.delete(
    "/{name}",
    summary="Delete a network",
    status_code=204,
    response_description="It is gone.",
    response_model=None,
    responses={
        202: {"model": NetworkAnswer, "description": "Its hosts are asked to leave it; the last one removes it."},
        **answers.refusals(404, 409, 422, 503),
    },
)
async def delete_network(name: str, overlay: Services) -> Response:
    """Remove a network in which no container is attached; refused (`in-use`) while one is."""
    written = await overlay.networks.delete(NetworkName(name))
    if written.result is None:
        return Response(status_code=204)
    return answers.record(written.result, written.revision, 202)
