"""The HTTP application of a controller."""

from importlib import metadata, resources
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import HTMLResponse

from controller.api.http import (
    auth,
    body_limit,
    interrupted_requests,
    permissions,
    problem_documents,
    schema_names,
)
from controller.api.http.admission import Precedence, admit
from controller.api.http.auth import Security
from controller.api.http.quick_route import QuickRoutes
from controller.api.routes import (
    blocks,
    capacity,
    convergence,
    endpoints,
    feed,
    history,
    hosts,
    identity,
    metrics,
    networks,
    reservations,
    tokens,
    watch,
)
from controller.api.routes.metrics import Metrics, RequestMeter
from controller.overlay import Overlay

_DESCRIPTION = """
The controller of a VXLAN overlay network for container hosts.

Every answer carries the `revision` of the intent that it holds at; `/v1/convergence` tells on which hosts a revision is
in force. Errors are problem documents (RFC 9457) with a stable `code` and the `field` at fault.
"""

_TAGS = [
    {"name": "networks", "description": "Isolated address spaces that containers on any host can join."},
    {"name": "hosts", "description": "Container hosts: their numbers, tunnel ends and status."},
    {"name": "blocks", "description": "Which part of a network's range belongs to which host."},
    {"name": "reservations", "description": "Addresses held for a name, which go with it from host to host."},
    {"name": "endpoints", "description": "Containers' interfaces, as their hosts publish them."},
    {"name": "feed", "description": "What a host must know, as a stream."},
    {"name": "identity", "description": "Tokens: who calls, and who may."},
    {"name": "history", "description": "Who changed what, and how it was."},
    {"name": "status", "description": "Whether the controller works, and what is in force."},
]

# In this order routes are looked for: those first that hosts ask for all the time.
_PARTS = (
    blocks,
    hosts,
    endpoints,
    feed,
    networks,
    reservations,
    capacity,
    identity,
    tokens,
    history,
    watch,
    convergence,
    metrics,
)

_pages = APIRouter(include_in_schema=False)


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            problem_documents.document(super().openapi())
            auth.document(super().openapi())
            schema_names.document(super().openapi())
        return super().openapi()


def create_app(overlay: Overlay, security: Security) -> FastAPI:
    """Return the application that offers an overlay's services to those who may use them.

    Raises `LookupError` when a route is not in the table of permissions.
    """
    app = _Application(
        title="overlay controller",
        version=metadata.version("overlayd"),
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
        dependencies=[Depends(admit)],
    )
    app.state.overlay = overlay
    app.state.security = security
    app.state.metrics = Metrics(overlay)
    app.add_middleware(RequestMeter, metrics=app.state.metrics)
    app.add_middleware(body_limit.BodyLimit)
    app.add_middleware(auth.Authentication, overlay=overlay, security=security)
    app.add_middleware(Precedence, turns=overlay.turns)
    app.add_middleware(interrupted_requests.InterruptedRequests)
    problem_documents.install(app)
    parts = [*(part.router for part in _PARTS), _pages]
    quick = (route for router in parts for route in router.routes)
    app.router.middleware_stack = QuickRoutes(app.router.middleware_stack, quick)
    for router in parts:
        app.include_router(router)
        for route in router.routes:
            for method in getattr(route, "methods", ()):
                permissions.need(method, getattr(route, "path", ""))
    return app


@_pages.get("/docs")
async def docs() -> HTMLResponse:
    return HTMLResponse(resources.files("controller.api").joinpath("docs.html").read_text())
