"""A quick route answers as FastAPI does: whatever is asked, the answer does not depend on who gave it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter

from controller.api.app import create_app
from controller.api.bodies.request_bodies import ReportBody
from controller.api.http.auth import INSECURE
from controller.api.http.dependencies import Services
from controller.api.http.quick_route import QuickRoute
from tests.support.controllers.overlays import H1, controllers, make_host, make_network

pytestmark = pytest.mark.anyio

QUICK, WHOLE = "application/json", "application/json; charset=utf-8"
"""Media types that mean the same; the second one is left to FastAPI."""

BLOCKS, REPORT = "/v1/networks/blue/blocks", "/v1/hosts/h1/report"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        await make_network(overlay)
        with overlay.feeds.open(H1, "i1"):
            transport = httpx.ASGITransport(create_app(overlay, INSECURE))
            async with httpx.AsyncClient(transport=transport, base_url="http://controller") as client:
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


def test_a_route_that_needs_more_cannot_be_quick() -> None:
    async def asks_for_more(id: str, body: ReportBody, overlay: Services, verbose: bool) -> None:  # noqa: A002, FBT001
        raise AssertionError((id, body, overlay, verbose))

    with pytest.raises(TypeError, match="a quick route"):
        APIRouter().add_api_route("/{id}", asks_for_more, methods=["POST"], route_class_override=QuickRoute)
