"""Routes that say how things are: whether the controller works, and whether a revision is in force."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from controller.api.bodies import response_bodies
from controller.api.bodies.response_bodies import ConvergenceAnswer, HealthAnswer
from controller.api.http.dependencies import Services
from overlayd.model.ids import NetworkName, Revision

router = APIRouter(tags=["status"])


@router.get(
    "/healthz",
    summary="Show whether the controller is alive",
    response_model=HealthAnswer,
)
async def health(overlay: Services) -> JSONResponse:
    """Answer 200 while the process works; `/readyz` reports whether its store answers."""
    # How many, and not which: strangers may ask this.
    awaited = len(overlay.recovery.awaited()) if overlay.recovery.is_under_way else None
    return JSONResponse({"status": "ok", "revision": overlay.mirror.intent_revision, "awaited": awaited})


@router.get(
    "/readyz",
    summary="Show whether the controller can serve hosts",
    response_model=HealthAnswer,
    responses=response_bodies.refusals(503),
)
async def readiness(overlay: Services) -> JSONResponse:
    """Answer 200 when the store takes writes and this controller follows it: hosts change over to such a one."""
    await overlay.mirror.verify()
    overlay.writability.check()
    return await health(overlay)


@router.get(
    "/v1/convergence",
    summary="Show on which hosts a revision is in force",
    response_model=ConvergenceAnswer,
    responses=response_bodies.refusals(404, 422, 503),
)
async def convergence(
    overlay: Services,
    revision: Annotated[int | None, Query(ge=0, description="The latest one by default.", examples=[42])] = None,
    network: Annotated[
        str | None, Query(description="Count only hosts with a block of it, and its problems.", examples=["blue"])
    ] = None,
    wait: Annotated[float, Query(ge=0, le=60, description="Seconds to wait while a host lags.")] = 0,
) -> JSONResponse:
    """Tell which hosts have a revision in their kernels, which lag, and why."""
    found = await overlay.statuses.settled(
        None if revision is None else Revision(revision),
        None if network is None else NetworkName(network),
        wait,
        overlay.clock,
    )
    hosts = [
        {"host": status.host.id, "name": status.host.name, **response_bodies.heard(status), "lag": lag}
        for status, lag in found.lags
    ]
    return JSONResponse(
        {"revision": found.revision, "in_force": found.in_force, "total": len(found.lags), "hosts": hosts}
    )
