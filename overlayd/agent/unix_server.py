"""A unix socket for root: one request, one answer, bounded in size and time."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

BACKLOG = 1024
"""Connections that may wait: a node that starts sends hundreds of requests at once."""

REQUEST_MAX = 1 << 20
"""Bytes."""

_READ_TIMEOUT = 10.0


async def serve(path: Path, answer: Callable[[bytes], Awaitable[bytes]]) -> asyncio.Server:
    """Listen on a socket of mode 0600. A request ends where the client closes its sending side."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_READ_TIMEOUT):
                request = await _read_all(reader)
            writer.write(await answer(request))
            await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.LimitOverrunError):
            pass  # the client went away or does not speak our protocol: nobody is there to be told
        finally:
            writer.close()

    listener = _listen(path)
    return await asyncio.start_unix_server(connected, sock=listener, backlog=BACKLOG)


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)  # before it listens, so that nobody else ever connects
    return listener


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    chunks = bytearray()
    while chunk := await reader.read(65536):
        chunks += chunk
        if len(chunks) > REQUEST_MAX:
            raise asyncio.LimitOverrunError("request too long", len(chunks))
    return bytes(chunks)
