"""How routes get at the services."""

from typing import Annotated

from fastapi import Depends, Request

from controller.api.auth import CurrentCaller
from controller.http import IS_WAITING
from controller.services.overlay import Overlay


def _overlay(request: Request) -> Overlay:
    overlay = request.app.state.overlay
    if not isinstance(overlay, Overlay):
        raise TypeError("the application was made without an overlay")
    return overlay


def _acting(request: Request, overlay: Annotated[Overlay, Depends(_overlay)], caller: CurrentCaller) -> Overlay:
    extension = request.scope.get("extensions", {}).get(IS_WAITING)
    return overlay.acting(caller.actor, extension["now"] if extension else None)


Services = Annotated[Overlay, Depends(_acting)]
"""The services, as whoever sent the request uses them."""

OpenServices = Annotated[Overlay, Depends(_overlay)]
"""The services, for a route that is open to everybody."""
