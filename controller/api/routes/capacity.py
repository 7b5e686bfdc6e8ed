"""Routes that tell how much of everything is given out."""

from typing import Annotated, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from controller.api.bodies import response_bodies
from controller.api.bodies.response_bodies import AtRevision
from controller.api.http.dependencies import Services
from controller.health import capacity
from controller.health.capacity import Alarm, CapacitySupply, NetworkCapacity
from overlayd.model.ids import NetworkName
from overlayd.wire.fields import Json

router = APIRouter(prefix="/v1", tags=["status"])


class SupplyAnswer(BaseModel):
    """How much of something is given out."""

    total: Annotated[int, Field(description="Number of units that can be allocated.", examples=[1024])]
    taken: Annotated[
        int,
        Field(
            description="Number of allocated units, including withheld ones and those in quarantine.", examples=[860]
        ),
    ]
    level: Annotated[
        Literal["warning", "critical"] | None,
        Field(description=f"Warning from {capacity.WARNING_AT} %, critical from {capacity.CRITICAL_AT} %."),
    ]


class FamilyAnswer(SupplyAnswer):
    """The blocks of a family in all ranges of a network."""

    family: Literal[4, 6]


class PoolCapacityAnswer(BaseModel):
    """How many blocks of a range are in each state."""

    range: Annotated[str, Field(examples=["10.32.0.0/16"])]
    block_length: Annotated[int, Field(examples=[26])]
    total: Annotated[int, Field(examples=[1024])]
    used: Annotated[int, Field(description="Hosts have them.", examples=[800])]
    quarantined: Annotated[int, Field(description="Number of blocks in quarantine.", examples=[4])]
    withheld: Annotated[int, Field(description="Number of blocks that reservations withhold.", examples=[40])]
    reserved: Annotated[int, Field(description="Number of blocks that reserved ranges fill.", examples=[16])]
    free: Annotated[int, Field(examples=[164])]


class NetworkCapacityRecord(BaseModel):
    """How much of a network's ranges is given out, in blocks."""

    network: Annotated[str, Field(examples=["blue"])]
    pools: list[PoolCapacityAnswer]
    families: list[FamilyAnswer]


class NetworkCapacityAnswer(NetworkCapacityRecord):
    """The capacity of a network as of a revision."""

    revision: AtRevision


class AlarmAnswer(BaseModel):
    """Something that is near its end."""

    level: Literal["warning", "critical"]
    network: Annotated[str | None, Field(description="Null for a resource that all networks share.", examples=["blue"])]
    subject: Annotated[str, Field(examples=["IPv4 blocks of network blue"])]
    total: Annotated[int, Field(examples=[1024])]
    taken: Annotated[int, Field(examples=[860])]
    advice: Annotated[str, Field(examples=["overlayctl network add-range blue CIDR gives it another range"])]


class CapacityAnswer(BaseModel):
    """The capacity of the whole cluster as of a revision."""

    networks: list[NetworkCapacityRecord]
    vnis: SupplyAnswer
    host_numbers: SupplyAnswer
    alarms: list[AlarmAnswer]
    revision: AtRevision


@router.get("/capacity", summary="Show the capacity of the cluster", response_model=CapacityAnswer)
async def get_capacity(overlay: Services) -> JSONResponse:
    """Tell what is given out of every network, of the VNIs and of the host numbers, and what is near its end."""
    found = capacity.of_cluster(overlay.mirror)
    return JSONResponse(
        {
            "networks": [_network(network) for network in found.networks],
            "vnis": _supply(found.vnis),
            "host_numbers": _supply(found.host_numbers),
            "alarms": [_alarm(alarm) for alarm in capacity.alarms(overlay.mirror)],
            "revision": overlay.mirror.intent_revision,
        }
    )


@router.get(
    "/networks/{name}/capacity",
    summary="Show the capacity of a network",
    response_model=NetworkCapacityAnswer,
    responses=response_bodies.refusals(404, 422),
)
async def get_network_capacity(name: str, overlay: Services) -> JSONResponse:
    """Count the blocks of each range of a network by their state."""
    found = capacity.of_network(overlay.mirror, overlay.networks.get(NetworkName(name)))
    return JSONResponse({**_network(found), "revision": overlay.mirror.intent_revision})


def _network(found: NetworkCapacity) -> dict[str, Json]:
    pools: list[Json] = [
        {
            "range": str(pool.range),
            "block_length": pool.block_length,
            "total": pool.total,
            "used": pool.used,
            "quarantined": pool.quarantined,
            "withheld": pool.withheld,
            "reserved": pool.reserved,
            "free": pool.free,
        }
        for pool in found.pools
    ]
    families: list[Json] = [{"family": int(family), **_supply(supply)} for family, supply in found.families]
    return {"network": found.network, "pools": pools, "families": families}


def _supply(supply: CapacitySupply) -> dict[str, Json]:
    return {"total": supply.total, "taken": supply.taken, "level": supply.level}


def _alarm(alarm: Alarm) -> dict[str, Json]:
    return {
        "level": alarm.level,
        "network": alarm.network,
        "subject": alarm.subject,
        "total": alarm.supply.total,
        "taken": alarm.supply.taken,
        "advice": alarm.advice,
    }
