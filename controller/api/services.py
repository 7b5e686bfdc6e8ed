"""How routes get at the services."""

from typing import Annotated

from fastapi import Depends, Request

from controller.services.overlay import Overlay


def _overlay(request: Request) -> Overlay:
    overlay = request.app.state.overlay
    if not isinstance(overlay, Overlay):
        raise TypeError("the application was made without an overlay")
    return overlay


Services = Annotated[Overlay, Depends(_overlay)]
