"""A body that is too large is the sender's fault: the same again, here or at another controller, is of no use."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from controller.api.app import create_app
from controller.api.http.auth import INSECURE
from controller.api.http.body_limit import BODY_MAX
from controller.overlay import Overlay
from tests.support.controllers.overlays import H1, controllers, make_host

pytestmark = pytest.mark.anyio

STATEMENT = "/v1/hosts/h1/statement"
NOTHING_USED: dict[str, object] = {
    "knew": None,
    "revision": 0,
    "networks": [],
    "blocks": [],
    "addresses": [],
    "reservations": [],
}


@pytest.fixture
async def overlay(tmp_path: Path) -> AsyncIterator[Overlay]:
    async with controllers(tmp_path, 1) as (_, [made]):
        await make_host(made, 1)
        yield made


@pytest.fixture
async def api(overlay: Overlay) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(overlay, INSECURE))
    async with httpx.AsyncClient(transport=transport, base_url="http://controller") as client:
        yield client


async def pieces(whole: bytes) -> AsyncIterator[bytes]:
    """Yield a body whose length is not announced."""
    for start in range(0, len(whole), 65_536):
        yield whole[start : start + 65_536]


def statement_of(size: int) -> bytes:
    """Return a statement with so many bytes, of a host that uses nothing."""
    said = json.dumps(NOTHING_USED).encode()
    return said + b" " * (size - len(said))


@pytest.mark.parametrize("is_announced", [True, False])
async def test_a_statement_that_is_too_large_is_refused_for_good(
    api: httpx.AsyncClient, overlay: Overlay, *, is_announced: bool
) -> None:
    said = statement_of(BODY_MAX + 1)
    refused = await api.put(
        STATEMENT, content=said if is_announced else pieces(said), headers={"content-type": "application/json"}
    )
    assert refused.status_code == 413
    assert refused.headers["content-type"] == "application/problem+json"
    problem = refused.json()
    assert (problem["code"], problem["status"]) == ("too-large", 413)
    assert str(BODY_MAX) in problem["detail"]
    assert "retry-after" not in refused.headers  # unlike what is unavailable for now
    assert H1 not in overlay.mirror.statements


async def test_a_statement_of_the_largest_size_is_taken(api: httpx.AsyncClient, overlay: Overlay) -> None:
    headers = {"content-type": "application/json"}
    taken = await api.put(STATEMENT, content=statement_of(BODY_MAX), headers=headers)
    assert taken.status_code == 200
    assert overlay.mirror.lineage
    assert overlay.mirror.statements[H1] == str(overlay.mirror.lineage.lineage)


async def test_a_host_whose_statement_was_refused_may_follow_its_feed(api: httpx.AsyncClient, overlay: Overlay) -> None:
    refused = await api.put(STATEMENT, content=statement_of(BODY_MAX + 1))
    assert refused.status_code == 413
    await overlay.feeds.admit(H1, overlay.mirror.instance(H1) or "i", None)
    assert overlay.hosts.welcome(H1).id == H1
