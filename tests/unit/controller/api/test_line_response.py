"""Streams of lines leave in small pieces: each connection keeps a buffer of the largest one."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from starlette.types import Message

from controller.api.http.line_response import LineResponse

pytestmark = pytest.mark.anyio

LINES = [b"x" * 100_000 + b"\n", b"short\n", b"y" * 16_384]


class Lines:
    """A source that ends by itself."""

    async def lines(self) -> AsyncIterator[bytes]:
        for line in LINES:
            yield line

    def end(self) -> None:
        raise AssertionError("the reader stays")


@contextmanager
def opened() -> Iterator[Lines]:
    yield Lines()


async def test_no_piece_is_large_and_nothing_is_lost() -> None:
    sent: list[bytes] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            sent.append(message["body"])

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    await LineResponse(opened())({"type": "http"}, receive, send)
    assert max(map(len, sent)) == 4 * 1024
    assert b"".join(sent) == b"".join(LINES)
