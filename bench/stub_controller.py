"""A controller with a fixed cluster: `python -m bench.stub_controller ADDRESS PORT REMOTES OWN`.

It serves one agent, and prints a line for each report: the time on the machine's monotonic clock and the revision.
"""

import asyncio
import json
import sys
import time
from ipaddress import IPv4Address

from bench.large_cluster import HERE, large_cluster
from overlayd.model.cluster import Cluster
from overlayd.wire import records
from overlayd.wire.feed import Bookmark, InSync, Snapshot, encode_line

BOOKMARK_INTERVAL = 3.0
_PART = 500


class StubController:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.decode(), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = head.split(" ", 2)
        lengths = [line.split(":")[1] for line in head.splitlines() if line.lower().startswith("content-length:")]
        body = await reader.readexactly(int(lengths[0])) if lengths else b""
        if target.startswith("/v1/feed"):
            await self._feed(target, writer)
        if target.endswith("/report"):
            print(time.monotonic(), json.loads(body)["revision"], flush=True)
        host = records.encode(self._cluster.hosts[HERE])
        document = json.dumps({**host, "revision": self._cluster.revision} if method == "PUT" else {}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(document))
        writer.write(document)
        await writer.drain()

    async def _feed(self, target: str, writer: asyncio.StreamWriter) -> None:
        revision = self._cluster.revision
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        if f"after={revision}" not in target:
            known = self._cluster.records
            for start in range(0, len(known), _PART):
                writer.write(encode_line(Snapshot(revision, known[start : start + _PART])))
                await writer.drain()
        writer.write(encode_line(InSync(revision)))
        while True:
            await writer.drain()
            await asyncio.sleep(BOOKMARK_INTERVAL)
            writer.write(encode_line(Bookmark(revision)))


async def main(address: str, port: int, remotes: int, own: IPv4Address) -> None:
    server = await asyncio.start_server(StubController(large_cluster(remotes, own)).connected, address, port)
    async with server:
        print("ready", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), IPv4Address(sys.argv[4])))
