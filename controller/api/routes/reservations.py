"""Routes for reservations."""

from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from controller.api.bodies import response_bodies
from controller.api.bodies.request_bodies import AdminBody, AgentBody
from controller.api.bodies.response_bodies import AtRevision, Next
from controller.api.http import etags
from controller.api.http.auth import CurrentCaller
from controller.api.http.dependencies import By, Services
from controller.api.http.etags import Expected, Known
from controller.api.http.paging import AskedPage
from overlayd.model import ids
from overlayd.model.address import Family
from overlayd.model.ids import NetworkName, ReservationName
from overlayd.model.reservation import Holder, Reservation
from overlayd.wire import records
from overlayd.wire.fields import parse_address

router = APIRouter(prefix="/v1/networks/{name}/reservations", tags=["reservations"])

Mac = Annotated[
    str | None,
    Field(description="The MAC of the holder's interface; null: a random one each time.", examples=[None]),
]


Shared = Annotated[
    bool,
    Field(
        description="Whether the addresses float among several containers of a switched network, each with addresses of"
        " its own (VRRP): whichever announces them by gratuitous ARP or a neighbour advertisement is the holder."
    ),
]


class ReservationBody(AdminBody):
    """A reservation to be made."""

    name: Annotated[str, Field(description="Unique in the network; the rule for a network's name.", examples=["web"])]
    addresses: Annotated[
        list[str],
        Field(default_factory=list, max_length=2, description="At most one of each family.", examples=[["10.32.0.5"]]),
    ]
    families: Annotated[
        list[Literal[4, 6]],
        Field(
            default_factory=list,
            max_length=2,
            description="Of these, a free address is chosen. Without `addresses`, of all that the network has.",
            examples=[[]],
        ),
    ]
    mac: Mac = None
    shared: Shared = False


class ReservationPatch(AdminBody):
    """What changes of a reservation (RFC 7396)."""

    mac: Mac = None


class HolderBody(AgentBody):
    """An interface of a container."""

    host: Annotated[str, Field(description="The host's id.", examples=["h-7f3a"])]
    container_id: Annotated[str, Field(description="The runtime's id of the container.", examples=["8f2c"])]
    interface: Annotated[str, Field(description="The interface inside the container.", examples=["eth0"])] = "eth0"

    def holder(self) -> Holder:
        """Return the holder; raise `InvalidValue`."""
        return Holder(
            ids.host_id(self.host, "host"), ids.container_id(self.container_id), ids.interface_name(self.interface)
        )


class HolderAnswer(BaseModel):
    """The interface that has a reserved address."""

    host: Annotated[str, Field(examples=["h-7f3a"])]
    container_id: Annotated[str, Field(examples=["8f2c"])]
    interface: Annotated[str, Field(examples=["eth0"])]


class ReservationRecord(BaseModel):
    """Addresses that are held for a name."""

    network: Annotated[str, Field(examples=["blue"])]
    name: Annotated[str, Field(examples=["web"])]
    addresses: Annotated[list[str], Field(examples=[["10.32.0.5"]])]
    mac: Annotated[str | None, Field(examples=["02:5e:10:00:00:05"])]
    holder: HolderAnswer | None
    shared: Shared


class ReservationAnswer(ReservationRecord):
    """A reservation as of a revision."""

    revision: AtRevision


class ReservationsAnswer(BaseModel):
    """Reservations as of a revision."""

    items: list[ReservationRecord]
    next: Next
    revision: AtRevision


@router.get(
    "", summary="List reservations", response_model=ReservationsAnswer, responses=response_bodies.refusals(404, 422)
)
async def list_reservations(name: str, overlay: Services, page: AskedPage) -> JSONResponse:
    """List the reservations of a network by name."""
    found = overlay.reservations.select(overlay.networks.get(NetworkName(name)).name)
    return page.answer(found, lambda reservation: (reservation.name,), records.encode, overlay.mirror.intent_revision)


@router.post(
    "",
    summary="Make a reservation",
    status_code=201,
    response_model=ReservationAnswer,
    responses=response_bodies.refusals(404, 409, 413, 422, 503),
)
async def create_reservation(name: str, body: ReservationBody, overlay: Services, by: By) -> JSONResponse:
    """Hold addresses for a name: those that are asked for, or the lowest free ones.

    Refused (`already-exists`) when another one has the name, an address or the MAC in the network, or (`in-use`) when
    a host owns the block around an address: reserve the range in the network before hosts come.
    """
    written = await overlay.reservations.create(
        by,
        NetworkName(name),
        ids.reservation_name(body.name),
        [parse_address(text, f"addresses[{index}]") for index, text in enumerate(body.addresses)],
        [Family(family) for family in body.families],
        None if body.mac is None else ids.workload_mac(body.mac),
        shared=body.shared,
    )
    return etags.answer(overlay, written.result, written.revision, 201)


@router.get(
    "/{reservation}",
    summary="Show a reservation",
    response_model=ReservationAnswer,
    responses={**response_bodies.UNCHANGED, **response_bodies.refusals(404, 422)},
)
async def get_reservation(name: str, reservation: str, overlay: Services, known: Known) -> Response:
    found = overlay.reservations.get(NetworkName(name), ReservationName(reservation))
    return etags.answer_reader(overlay, found, known)


@router.patch(
    "/{reservation}",
    summary="Change a reservation",
    response_model=ReservationAnswer,
    responses=response_bodies.refusals(404, 409, 412, 413, 422, 503),
    openapi_extra=response_bodies.MERGE_PATCH,
)
async def patch_reservation(
    name: str, reservation: str, body: ReservationPatch, overlay: Services, by: By, expected: Expected
) -> JSONResponse:
    """Change the MAC, which counts from the next attachment on; refused (`already-exists`) when another one has it."""
    mac = None if body.mac is None else ids.workload_mac(body.mac)

    def change(found: Reservation) -> Reservation:
        return replace(found, mac=mac) if "mac" in body.model_fields_set else found

    written = await overlay.reservations.update(by, NetworkName(name), ReservationName(reservation), change, expected)
    return etags.answer(overlay, written.result, written.revision)


@router.delete(
    "/{reservation}",
    summary="Delete a reservation",
    status_code=204,
    response_description="It is gone; its addresses are in quarantine for a while.",
    response_model=None,
    responses=response_bodies.refusals(404, 409, 412, 422, 503),
)
async def delete_reservation(name: str, reservation: str, overlay: Services, by: By, expected: Expected) -> Response:
    """Remove a reservation; refused (`in-use`) while a container holds it."""
    await overlay.reservations.delete(by, NetworkName(name), ReservationName(reservation), expected)
    return Response(status_code=204)


@router.post(
    "/{reservation}/claim",
    summary="Claim a reservation",
    response_model=ReservationAnswer,
    responses=response_bodies.refusals(404, 409, 413, 422, 503),
)
async def claim_reservation(
    name: str, reservation: str, body: HolderBody, overlay: Services, by: By, caller: CurrentCaller
) -> JSONResponse:
    """Give a reservation to an interface of a host, wherever it was: the endpoint that had it goes at once.

    A shared one goes to one of its members, and the endpoint that had it stays.
    """
    caller.must_be(body.host)
    with overlay.turns.urgent():
        written = await overlay.reservations.claim(by, NetworkName(name), ReservationName(reservation), body.holder())
    return etags.answer(overlay, written.result, written.revision)


@router.post(
    "/{reservation}/release",
    summary="Release a reservation",
    response_model=ReservationAnswer,
    responses=response_bodies.refusals(404, 409, 413, 422, 503),
)
async def release_reservation(
    name: str, reservation: str, body: HolderBody, overlay: Services, by: By, caller: CurrentCaller
) -> JSONResponse:
    """Take a reservation from an interface; nothing happens when it does not hold it (any more)."""
    caller.must_be(body.host)
    written = await overlay.reservations.release(by, NetworkName(name), ReservationName(reservation), body.holder())
    return etags.answer(overlay, written.result, written.revision)
