"""A TCP proxy that can lose the answers of a server: requests arrive, and the connection breaks before the answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class CuttingProxy:
    """Forwards connections to one server, and loses the next answer on demand."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._losing = False
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0
        self.lost = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["CuttingProxy"]:
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def lose_next_answer(self) -> None:
        """Break the connection over which the server says anything next, before the client gets it."""
        self._losing = True

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        writers = [writer]
        with suppress(OSError, asyncio.CancelledError):  # either side is gone, and so is the connection
            to_reader, to_writer = await asyncio.open_connection(*self._server)
            writers.append(to_writer)
            copying = [
                asyncio.ensure_future(self._copy(reader, to_writer)),
                asyncio.ensure_future(self._copy_answers(to_reader, writer)),
            ]
            try:
                await asyncio.wait(copying, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for copied in copying:
                    copied.cancel()
                await asyncio.gather(*copying, return_exceptions=True)
        for each in writers:
            each.transport.abort()
        self._connections.discard(connection)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def _copy_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self._losing:
                self._losing = False
                self.lost += 1
                return
            writer.write(data)
            await writer.drain()
