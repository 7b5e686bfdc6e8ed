"""A report waits for its turn; all other requests go on at once."""

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse

from controller.api.http.admission import Precedence
from controller.streams.turns import Turns
from tests.support.controllers.virtual_clock import VirtualClock

pytestmark = pytest.mark.anyio


async def test_a_report_waits_for_its_turn_and_nothing_else_does() -> None:
    turns = Turns(VirtualClock())
    served = httpx.ASGITransport(Precedence(PlainTextResponse("done"), turns))
    async with httpx.AsyncClient(transport=served, base_url="http://controller") as api:
        report = asyncio.create_task(api.post("/v1/hosts/h1/report"))
        for path in ("/v1/networks/blue/blocks", "/v1/hosts/h1/endpoints", "/v1/hosts/h1/reports"):
            assert (await api.post(path)).text == "done"
        assert not report.done()
        running = asyncio.create_task(turns.run())
        assert (await report).text == "done"
        running.cancel()
        await asyncio.wait([running])
