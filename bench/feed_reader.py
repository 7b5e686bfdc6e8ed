"""Reads many feeds in a process of its own, so that it does not slow the controller or the benchmark down."""

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit


class Readers:
    """Reads the feeds, and reports when all of them have reached a revision."""

    def __init__(self, url: str, hosts: list[str]) -> None:
        self._address = urlsplit(url)
        self._hosts = hosts
        self._in_sync = 0
        self._reached: defaultdict[int, int] = defaultdict(int)
        self._lines = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            for host in self._hosts:
                tasks.create_task(self._read(host))
            tasks.create_task(self._answer(loop))

    async def _answer(self, loop: asyncio.AbstractEventLoop) -> None:
        """For each revision read from stdin, print when the last feed reached it, and the number of lines received."""
        await self._until(lambda: self._in_sync == len(self._hosts))
        print(json.dumps({"in_sync": self._in_sync}), flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            await self._until(partial(self._all_have, int(line)))
            print(json.dumps({"at": time.monotonic(), "lines": self._lines}), flush=True)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._moved = asyncio.Event()
            await self._moved.wait()

    def _all_have(self, revision: int) -> bool:
        return sum(at >= revision for at in self._reached.values()) == len(self._hosts)

    async def _read(self, host: str) -> None:
        reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port, limit=2**24)
        writer.write(f"GET /v1/feed?host={host}&instance=i&version=2 HTTP/1.0\r\nHost: bench\r\n\r\n".encode())
        while line := await reader.readline():
            if not line.startswith(b'{"revision":'):
                continue
            self._lines += 1
            message = line[12 : line.index(b",")]
            self._reached[hash(host)] = int(message)
            self._in_sync += b'"in-sync"' in line[:60]
            self._moved.set()

    _moved = asyncio.Event()


if __name__ == "__main__":
    asyncio.run(Readers(sys.argv[1], sys.stdin.readline().split()).run())
