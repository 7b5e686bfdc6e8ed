"""The HTTP interface of a controller in this process, and bodies that it accepts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from controller.api.app import create_app
from controller.api.http.auth import INSECURE
from controller.api.http.problem_documents import ProblemDocument
from controller.overlay import Overlay
from overlayd.wire.fields import Json

BLUE = {"name": "blue", "pools": [{"range": "10.32.0.0/16"}]}
HOST = {"name": "rack1-07", "address": "192.0.2.1", "instance": "i1"}


def endpoint(last: int = 5, **changes: Json) -> dict[str, Json]:
    """Return the body of an endpoint of network blue."""
    whole: dict[str, Json] = {
        "network": "blue",
        "container_id": f"c{last}",
        "interface": "eth0",
        "addresses": [f"10.32.0.{last}"],
        "mac": f"02:00:00:00:00:{last:02x}",
        "sandbox": "/run/netns/c",
    }
    return {**whole, **changes}


@asynccontextmanager
async def api_of(overlay: Overlay) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a controller's application in this process, which takes every caller for an administrator."""
    transport = httpx.ASGITransport(create_app(overlay, INSECURE))
    async with httpx.AsyncClient(transport=transport, base_url="http://controller") as client:
        yield client


def assert_problem(answer: httpx.Response, status: int, code: str, field: str | None) -> None:
    """Check that an answer is a problem document (RFC 9457) of this code."""
    assert answer.headers["content-type"] == "application/problem+json"
    document = ProblemDocument.model_validate_json(answer.content)
    assert (answer.status_code, document.status, document.code, document.field) == (status, status, code, field)
    assert document.detail
    assert document.type == f"urn:overlayd:problem:{code}"
