"""Requests that a stop of the controller interrupts."""

import asyncio
import json
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from controller.api.http.interrupted_requests import InterruptedRequests
from controller.streams.watch_lines import WatchFilter
from overlayd.model.errors import Unavailable
from tests.support.controllers.overlays import H1, controllers, make_host

pytestmark = pytest.mark.anyio

SCOPE: Scope = {"type": "http", "method": "PUT", "path": "/v1/hosts/h1", "headers": []}


async def cancelled_while_under_way(app_says: list[Message]) -> tuple[list[Message], asyncio.Task[None]]:
    """Return what a client gets of a request that says this much before it waits for ever and is cancelled."""
    under_way, sent = asyncio.Event(), list[Message]()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in app_says:
            await send(message)
        under_way.set()
        await asyncio.Event().wait()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    task = asyncio.create_task(InterruptedRequests(app)(SCOPE, receive, send))
    await under_way.wait()
    task.cancel()
    await asyncio.wait([task])
    return sent, task


async def test_a_request_that_waits_is_told_to_come_again() -> None:
    (start, body), task = await cancelled_while_under_way([])
    assert start["status"] == 503
    assert dict(start["headers"])[b"retry-after"] == b"1"
    assert json.loads(body["body"])["code"] == "unavailable"
    assert not task.cancelled()


async def test_an_answer_that_has_begun_breaks_off() -> None:
    begun: Message = {"type": "http.response.start", "status": 200, "headers": []}
    sent, task = await cancelled_while_under_way([begun])
    assert sent == [begun]
    assert not task.cancelled(), "the server would log a traceback"


async def test_a_controller_that_stops_opens_no_stream_that_lasts(tmp_path: Path) -> None:
    """Agents come again the moment that their feeds end."""
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_host(overlay, 1)
        watch = await overlay.watches.prepare(WatchFilter(None, None), None)
        overlay.feeds.end()
        overlay.watches.end()
        with pytest.raises(Unavailable, match="stopping"):
            await overlay.feeds.admit(H1, "i1", None)
        with pytest.raises(Unavailable, match="stopping"):
            await overlay.watches.prepare(WatchFilter(None, None), None)
        async with asyncio.timeout(5):  # what was admitted a moment before
            with overlay.feeds.open(H1, "i1") as feed, overlay.watches.open(watch):
                assert [message async for message in feed.messages(None)]
                assert [line async for line in watch.lines()]
