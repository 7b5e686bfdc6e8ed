"""How routes get at the services."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from controller.api.auth import CurrentCaller
from controller.overlay import Overlay
from controller.server.http import IS_WAITING
from controller.state.actor import CONTROLLER


def _overlay(request: Request) -> Overlay:
    overlay = request.app.state.overlay
    if not isinstance(overlay, Overlay):
        raise TypeError("the application was made without an overlay")
    return overlay


def _is_waiting(request: Request) -> Callable[[], bool] | None:
    extension = request.scope.get("extensions", {}).get(IS_WAITING)
    return extension["now"] if extension else None


def _open(request: Request, overlay: Annotated[Overlay, Depends(_overlay)]) -> Overlay:
    return overlay.acting(CONTROLLER, _is_waiting(request))


def _acting(request: Request, overlay: Annotated[Overlay, Depends(_overlay)], caller: CurrentCaller) -> Overlay:
    return overlay.acting(caller.actor, _is_waiting(request))


Services = Annotated[Overlay, Depends(_acting)]
"""The services, as whoever sent the request uses them."""

OpenServices = Annotated[Overlay, Depends(_open)]
"""The services, for a route that is open to everybody."""
