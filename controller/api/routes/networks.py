"""Routes for networks."""

from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from controller.api.bodies import response_bodies
from controller.api.bodies.request_bodies import (
    NetworkBody,
    NetworkDefinition,
    NetworkPatch,
    ethertypes_of,
    pools_of,
    reserved_of,
)
from controller.api.bodies.response_bodies import NetworkAnswer, NetworksAnswer, WrittenNetworkAnswer
from controller.api.http import etags
from controller.api.http.dependencies import By, Services
from controller.api.http.etags import Expected, Known, MustBeNew
from controller.api.http.paging import AskedPage
from controller.journal.actor import Requester
from controller.journal.journal import Written
from controller.overlay import Overlay
from overlayd.model import ids
from overlayd.model.errors import AlreadyExists
from overlayd.model.ids import NetworkName, Vni
from overlayd.model.network import Network, Topology, Uplink
from overlayd.wire import records
from overlayd.wire.fields import Json

router = APIRouter(prefix="/v1/networks", tags=["networks"])


@router.get("", summary="List networks", response_model=NetworksAnswer, responses=response_bodies.refusals(422))
async def list_networks(
    overlay: Services,
    page: AskedPage,
    topology: Annotated[Literal["routed", "switched"] | None, Query(description="Only such networks.")] = None,
    state: Annotated[Literal["active", "deleting"] | None, Query(description="Only such networks.")] = None,
) -> JSONResponse:
    """List networks by name."""
    found = [
        network
        for network in overlay.networks.all()
        if topology in (None, network.topology.value) and state in (None, network.state.value)
    ]
    return page.answer(found, lambda network: (network.name,), records.encode, overlay.mirror.intent_revision)


@router.post(
    "",
    summary="Make a network",
    status_code=201,
    response_model=WrittenNetworkAnswer,
    responses=response_bodies.refusals(409, 413, 422, 503),
)
async def create_network(body: NetworkBody, overlay: Services, by: By) -> JSONResponse:
    """Give a network its name, its VNI and its range. Hosts join it when a container does."""
    return _answer(overlay, await _create(overlay, by, ids.network_name(body.name), body), 201)


@router.get(
    "/{name}",
    summary="Show a network",
    response_model=NetworkAnswer,
    responses={**response_bodies.UNCHANGED, **response_bodies.refusals(404, 422)},
)
async def get_network(name: str, overlay: Services, known: Known) -> Response:
    return etags.answer_reader(overlay, overlay.networks.get(NetworkName(name)), known)


@router.put(
    "/{name}",
    summary="Make a network, or replace its definition",
    response_model=WrittenNetworkAnswer,
    responses={
        201: {"model": WrittenNetworkAnswer, "description": "It has been made."},
        **response_bodies.refusals(409, 412, 413, 422, 503),
    },
)
async def put_network(
    name: str, body: NetworkDefinition, overlay: Services, by: By, expected: Expected, must_be_new: MustBeNew
) -> Response:
    """Let the network be as the body says, whether or not it exists. Topology and VNI of one that exists never change.

    `If-None-Match: *` only makes one, `If-Match` only replaces the one that the caller saw.
    """
    wanted = ids.network_name(name)
    if overlay.mirror.intent.networks.get(wanted) is None and expected is None:
        try:
            made = await _create(overlay, by, wanted, body)
        except AlreadyExists as refused:
            if refused.field != "name":  # the VNI is another network's
                raise
            # Another client made it in this moment: it is replaced.
        else:
            return _answer(overlay, made, 201)
    if must_be_new:
        raise etags.refuse_replacing()

    def change(found: Network) -> Network:
        return replace(
            found,
            pools=pools_of(body.pools, found.pools),
            reserved=reserved_of(body.reserved),
            topology=Topology(body.topology),
            vni=found.vni if body.vni is None else ids.vni(body.vni),
            uplink=Uplink(body.uplink),
            egress=body.egress,
            ethertypes=ethertypes_of(body.ethertypes),
        )

    return _answer(overlay, await overlay.networks.update(by, wanted, change, expected))


@router.patch(
    "/{name}",
    summary="Change a network's ranges, uplink, egress or EtherTypes",
    response_model=WrittenNetworkAnswer,
    responses=response_bodies.refusals(404, 409, 412, 413, 422, 503),
    openapi_extra=response_bodies.MERGE_PATCH,
)
async def patch_network(name: str, body: NetworkPatch, overlay: Services, by: By, expected: Expected) -> JSONResponse:
    """Add ranges while hosts use the network, take empty ones away, change what is reserved, the uplink and egress.

    Refused (`in-use`) when a host or a reservation has something in what would go.
    """

    def change(found: Network) -> Network:
        given = body.model_fields_set
        pools = pools_of(body.pools, found.pools) if "pools" in given else found.pools
        return replace(
            found,
            pools=pools,
            reserved=reserved_of(body.reserved) if "reserved" in given else found.reserved,
            uplink=Uplink(body.uplink) if "uplink" in given else found.uplink,
            egress=body.egress if "egress" in given else found.egress,
            ethertypes=ethertypes_of(body.ethertypes) if "ethertypes" in given else found.ethertypes,
        )

    return _answer(overlay, await overlay.networks.update(by, NetworkName(name), change, expected))


@router.delete(
    "/{name}",
    summary="Delete a network",
    status_code=204,
    response_description="It is gone.",
    response_model=None,
    responses={
        202: {"model": NetworkAnswer, "description": "Its hosts are asked to leave it; the last one removes it."},
        **response_bodies.refusals(404, 409, 412, 422, 503),
    },
)
async def delete_network(name: str, overlay: Services, by: By, expected: Expected) -> Response:
    """Remove a network in which no container is attached; refused (`in-use`) while one is."""
    written = await overlay.networks.delete(by, NetworkName(name), expected)
    if written.result is None:
        return Response(status_code=204)
    return etags.answer(overlay, written.result, written.revision, 202)


def _answer(overlay: Overlay, written: Written[Network], status: int = 200) -> JSONResponse:
    """Answer what was written, and what hosts will report of it."""
    warnings = list[Json](overlay.networks.warnings(written.result))
    return etags.answer(overlay, written.result, written.revision, status, {"warnings": warnings})


async def _create(overlay: Overlay, by: Requester, name: NetworkName, body: NetworkDefinition) -> Written[Network]:
    return await overlay.networks.create(
        by,
        name,
        pools_of(body.pools),
        Topology(body.topology),
        None if body.vni is None else Vni(body.vni),
        reserved_of(body.reserved),
        uplink=Uplink(body.uplink),
        egress=body.egress,
        ethertypes=ethertypes_of(body.ethertypes),
    )
