"""How routes get at the services."""

from typing import Annotated

from fastapi import Depends, Request

from controller.api.auth import CurrentCaller
from controller.services.overlay import Overlay


def _overlay(request: Request) -> Overlay:
    overlay = request.app.state.overlay
    if not isinstance(overlay, Overlay):
        raise TypeError("the application was made without an overlay")
    return overlay


def _acting(overlay: Annotated[Overlay, Depends(_overlay)], caller: CurrentCaller) -> Overlay:
    return overlay.acting(caller.actor)


Services = Annotated[Overlay, Depends(_acting)]
"""The services, as whoever sent the request uses them."""

OpenServices = Annotated[Overlay, Depends(_overlay)]
"""The services, for a route that is open to everybody."""
