"""A response that is a stream of JSON lines, open until the reader goes away, is too slow, or its source ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

WRITE_MAX = 10.0
"""Seconds that a reader may take for one piece before its stream ends."""

_PIECE_MAX = 4 * 1024
"""Bytes that are sent at once. The buffer in which OpenSSL leaves what is encrypted grows to the largest piece, and
keeps that size for as long as the connection is open; most deltas are smaller than this."""


class LineSource(Protocol):
    """Where lines come from."""

    def lines(self) -> AsyncIterator[bytes]:
        """Yield whole lines, one or several at a time."""

    def end(self) -> None:
        """End the lines: their reader has gone."""


class LineResponse(Response):
    """Sends the lines of a source, which is open for as long."""

    media_type = "application/x-ndjson"

    def __init__(self, source: AbstractContextManager[LineSource]) -> None:
        super().__init__(headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI has it
        with self._source as source:
            async with asyncio.TaskGroup() as tasks:
                disconnect = tasks.create_task(_end_on_disconnect(receive, source), name="stream-disconnect")
                await self._send(source, send)
                disconnect.cancel()

    async def _send(self, source: LineSource, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for lines in source.lines():
                for start in range(0, len(lines), _PIECE_MAX):
                    piece = lines[start : start + _PIECE_MAX]
                    async with asyncio.timeout(WRITE_MAX):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
        except TimeoutError:
            return  # an unfinished response: the server closes the connection
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _end_on_disconnect(receive: Receive, source: LineSource) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    source.end()
