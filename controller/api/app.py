"""The HTTP application of a controller."""

from importlib import metadata, resources
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse

from controller.api import blocks, convergence, endpoints, feed, hosts, limits, networks, problems
from controller.services.overlay import Overlay

_DESCRIPTION = """
The controller of a VXLAN overlay network for container hosts.

Every answer carries the `revision` of the intent that it holds at; `/v1/convergence` tells on which hosts a revision is
in force. Errors are problem documents (RFC 9457) with a stable `code` and the `field` at fault.
"""

_TAGS = [
    {"name": "networks", "description": "Isolated address spaces that containers on any host can join."},
    {"name": "hosts", "description": "Container hosts: their numbers, tunnel ends and status."},
    {"name": "blocks", "description": "Which part of a network's range belongs to which host."},
    {"name": "endpoints", "description": "Containers' interfaces, as their hosts publish them."},
    {"name": "feed", "description": "What a host must know, as a stream."},
    {"name": "status", "description": "Whether the controller works, and what is in force."},
]

_pages = APIRouter(include_in_schema=False)


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            problems.document(super().openapi())
        return super().openapi()


def create_app(overlay: Overlay) -> FastAPI:
    """Return the application that offers an overlay's services."""
    app = _Application(
        title="overlay controller",
        version=metadata.version("overlayd"),
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
    )
    app.state.overlay = overlay
    app.add_middleware(limits.BodyLimit)
    problems.install(app)
    for part in (networks, hosts, blocks, endpoints, feed, convergence):
        app.include_router(part.router)
    app.include_router(_pages)
    return app


@_pages.get("/docs")
async def docs() -> HTMLResponse:
    return HTMLResponse(resources.files("controller.api").joinpath("docs.html").read_text())
