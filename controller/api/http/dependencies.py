"""The dependencies of routes: the services, and the requester of a change."""

from typing import Annotated

from fastapi import Depends, Request

from controller.api.http.auth import current
from controller.journal.actor import CONTROLLER, Actor, Requester
from controller.overlay import Overlay
from controller.server.http import IS_WAITING


def overlay_of(request: Request) -> Overlay:
    """Return the services of the controller that was asked."""
    overlay = request.app.state.overlay
    if not isinstance(overlay, Overlay):
        raise TypeError("the application was made without an overlay")
    return overlay


def requester_of(request: Request) -> Requester:
    """Return the caller, as the author of what a route writes."""
    return _requester(request, current(request).actor)


# Dependencies are coroutines: FastAPI calls a plain function in a thread.


async def _overlay(request: Request) -> Overlay:
    return overlay_of(request)


async def _caller(request: Request) -> Requester:
    return requester_of(request)


async def _controller(request: Request) -> Requester:
    return _requester(request, CONTROLLER)


def _requester(request: Request, actor: Actor) -> Requester:
    extension = request.scope.get("extensions", {}).get(IS_WAITING)
    return Requester(actor, extension["now"]) if extension else Requester(actor)


Services = Annotated[Overlay, Depends(_overlay)]
"""The services of this controller."""

By = Annotated[Requester, Depends(_caller)]
"""The caller, as the author of what a route writes."""

ByController = Annotated[Requester, Depends(_controller)]
"""The controller itself, as the author of what a route writes that asks for no credentials."""
