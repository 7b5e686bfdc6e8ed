"""A controller of one agent, with a fixed cluster: `python -m bench.hosts.stub_controller DIRECTORY ADDRESS PORT`.

The directory holds what it serves over TLS: `server.pem`, its certificate and key; `host.json`, its answer to the
agent's registration, with the revision of the cluster; and `snapshot`, lines of the feed. It listens there at `lines`,
and sends each line that it gets there on to the agent. It prints `ready`, and a line for each report of the agent: the
time on the machine's monotonic clock, and the revision.
"""

import asyncio
import json
import re
import ssl
import sys
import time
from pathlib import Path

from overlayd.model.ids import Revision
from overlayd.wire.feed import Bookmark, InSync, encode_line

BOOKMARK_INTERVAL = 3.0
"""Seconds, as of real controllers."""

_PART = 1 << 20
_AFTER = re.compile(r"[?&]after=(\d+)")
_REVISION = re.compile(rb'\{"revision": ?(\d+)')


class StubController:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._host = json.loads((directory / "host.json").read_text())
        self._first = self._revision = Revision(self._host["revision"])
        self._agent: asyncio.StreamWriter | None = None

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.decode(), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def changed(self, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        """Send lines on."""
        while line := await reader.readline():
            found = _REVISION.match(line)
            if found is None or self._agent is None:
                raise ValueError(f"no line of a feed, or no reader to send it to: {line[:80]!r}")
            self._revision = Revision(int(found[1]))
            self._agent.write(line)
            await self._agent.drain()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = head.split(" ", 2)
        lengths = [line.split(":")[1] for line in head.splitlines() if line.lower().startswith("content-length:")]
        body = await reader.readexactly(int(lengths[0])) if lengths else b""
        if target.startswith("/v1/feed"):
            await self._feed(target, writer)
        if target.endswith("/report"):
            print(time.monotonic(), json.loads(body)["revision"], flush=True)
        document = json.dumps({**self._host, "revision": self._revision} if method == "PUT" else {}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(document))
        writer.write(document)
        await writer.drain()

    async def _feed(self, target: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        after = _AFTER.search(target)
        if after is None or int(after[1]) < self._first:
            with (self._directory / "snapshot").open("rb") as snapshot:
                while part := snapshot.read(_PART):
                    writer.write(part)
                    await writer.drain()
        writer.write(encode_line(InSync(self._revision)))
        self._agent = writer
        while True:
            await writer.drain()
            await asyncio.sleep(BOOKMARK_INTERVAL)
            writer.write(encode_line(Bookmark(self._revision)))


async def main(directory: Path, address: str, port: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")
    stub = StubController(directory)
    server = await asyncio.start_server(stub.connected, address, port, ssl=context)
    lines = await asyncio.start_unix_server(stub.changed, directory / "lines", limit=1 << 24)
    async with server, lines:
        print("ready", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
