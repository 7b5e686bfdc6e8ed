"""A quick route answers as FastAPI does: whatever is asked, the answer does not depend on who gave it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.api.app import create_app
from controller.api.bodies.request_bodies import ReportBody
from controller.api.http.auth import INSECURE
from controller.api.http.dependencies import Services
from controller.api.http.quick_route import QuickRoute
from tests.support.controllers.api import endpoint
from tests.support.controllers.overlays import H1, controllers, make_host, make_network

pytestmark = pytest.mark.anyio

QUICK, WHOLE = "application/json", "application/json; charset=utf-8"
"""Media types that mean the same; the second one is left to FastAPI."""

BLOCKS, REPORT, PUBLICATION = "/v1/networks/blue/blocks", "/v1/hosts/h1/report", "/v1/hosts/h1/endpoints"


def calling(app: ASGIApp) -> httpx.AsyncClient:
    """Return a client of an application."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://controller")


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[FastAPI]:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        await make_network(overlay)
        with overlay.feeds.open(H1, "i1"):
            yield create_app(overlay, INSECURE)


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(app) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (REPORT, {"instance": "i1", "revision": 1, "problems": []}, 200),
        (REPORT, {"instance": "i1", "revision": 1, "more": "of a newer agent"}, 200),
        (REPORT, {"instance": "i2", "revision": 1}, 409),
        (REPORT, {"instance": "i1", "revision": -1}, 422),
        (REPORT, {"instance": "i1", "revision": "1"}, 422),
        (REPORT, {"instance": "i1", "revision": 1, "problems": [{"object": "x"}]}, 422),
        (REPORT, [], 422),
        (REPORT, None, 422),
        (f"{REPORT}?verbose=1", {"instance": "i1", "revision": 1}, 422),
        ("/v1/hosts/h2/report", {"instance": "i1", "revision": 1}, 404),
        (BLOCKS, {"host": "h1", "family": 4}, 200),
        (BLOCKS, {"host": "h1", "family": 5}, 422),
        (BLOCKS, {"host": "h1", "family": 4, "held": ["10.32.0.1/26"]}, 422),
        (BLOCKS, {"host": "h2"}, 404),
        ("/v1/networks/red/blocks", {"host": "h1"}, 404),
        (PUBLICATION, {"puts": [], "deletes": []}, 200),
        (PUBLICATION, {"puts": [endpoint()]}, 200),
        (PUBLICATION, {"puts": [endpoint(interface="a/b")]}, 422),
        (PUBLICATION, {"puts": [endpoint(), endpoint()]}, 422),
        (PUBLICATION, {"deletes": [{"network": "blue", "container_id": "c", "interface": "eth0"}]}, 200),
        (PUBLICATION, {"deletes": [{}]}, 422),
        ("/v1/hosts/h2/endpoints", {"puts": []}, 404),
    ],
)
async def test_both_ways_answer_the_same(api: httpx.AsyncClient, path: str, body: object, status: int) -> None:
    content = json.dumps(body)
    quick, whole = [await api.post(path, content=content, headers={"content-type": each}) for each in (QUICK, WHOLE)]
    assert quick.status_code == whole.status_code == status
    assert quick.json() == whole.json()
    assert quick.headers == whole.headers


@pytest.mark.parametrize(("content", "status"), [(b"{", 422), (b"\xff", 400), (b"", 422)])
async def test_what_is_no_json_is_refused_alike(api: httpx.AsyncClient, content: bytes, status: int) -> None:
    quick, whole = [await api.post(REPORT, content=content, headers={"content-type": each}) for each in (QUICK, WHOLE)]
    assert quick.status_code == whole.status_code == status
    assert quick.json() == whole.json()


async def test_a_body_of_another_type_is_refused(api: httpx.AsyncClient) -> None:
    content = json.dumps({"instance": "i1", "revision": 1})
    assert (await api.post(REPORT, content=content, headers={"content-type": "text/plain"})).status_code == 422


@pytest.mark.parametrize("media_type", [QUICK, WHOLE])
async def test_a_caller_that_goes_while_it_sends_is_no_defect(app: FastAPI, media_type: str) -> None:
    async def cut_off(scope: Scope, _receive: Receive, send: Send) -> None:
        come: list[Message] = [{"type": "http.request", "body": b'{"instance": "i1",', "more_body": True}]

        async def receive() -> Message:
            return come.pop() if come else {"type": "http.disconnect"}

        await app(scope, receive, send)

    async with calling(cut_off) as client:
        assert (await client.post(REPORT, headers={"content-type": media_type})).status_code == 400


def test_a_route_that_needs_more_cannot_be_quick() -> None:
    async def asks_for_more(id: str, body: ReportBody, overlay: Services, verbose: bool) -> None:  # noqa: A002, FBT001
        raise AssertionError((id, body, overlay, verbose))

    with pytest.raises(TypeError, match="a quick route"):
        APIRouter().add_api_route("/{id}", asks_for_more, methods=["POST"], route_class_override=QuickRoute)
