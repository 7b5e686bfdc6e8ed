"""Simulated agents, in a process of their own, so that they do not slow the controller or the benchmark down.

`python -m bench.controllers.feed_reader PORT CA_FILE TOKEN_FILE` reads the ids of hosts from a line of stdin. Each host
follows its feed, and reports each revision that it has got, as an agent does once it has programmed it.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from functools import partial

from bench.controllers.http_connection import Authority, Connection


class Agent:
    """One host: a connection for its feed and one for its reports."""

    def __init__(self, authority: Authority, host: str, moved: Callable[[], None]) -> None:
        self._authority = authority
        self._host = host
        self._moved = moved
        self._to_report = asyncio.Event()
        self.is_in_sync = False
        self.lines = 0
        self.reached = 0
        self.reported = 0

    async def follow(self) -> None:
        reader, writer = await self._authority.open()
        path = f"/v1/feed?host={self._host}&instance=i&version=2"
        writer.write(f"GET {path} HTTP/1.0\r\n{self._authority.head}\r\n".encode())
        while line := await reader.readline():
            if not line.startswith(b'{"revision":'):
                continue
            self.lines += 1
            self.reached = int(line[12 : line.index(b",")])
            self.is_in_sync |= b'"in-sync"' in line[:60]
            if self.is_in_sync:
                self._to_report.set()
            self._moved()
        raise ConnectionError(f"the feed of {self._host} ended")

    async def report(self) -> None:
        connection = Connection(self._authority)
        while True:
            await self._to_report.wait()
            self._to_report.clear()
            if (revision := self.reached) == self.reported:
                continue
            body = {"instance": "i", "revision": revision, "problems": []}
            await connection.ask("POST", f"/v1/hosts/{self._host}/report", body)
            self.reported = revision
            self._moved()


class Agents:
    """All of them, and answers about when they had what."""

    def __init__(self, authority: Authority, hosts: list[str]) -> None:
        self._agents = [Agent(authority, host, self._wake) for host in hosts]
        self._moved = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for agent in self._agents:
                tasks.create_task(agent.follow())
                tasks.create_task(agent.report())
            tasks.create_task(self._answer())

    async def _answer(self) -> None:
        """For each revision read from stdin, print when the last agent had it and when its report was answered."""
        loop = asyncio.get_running_loop()
        await self._until(lambda agent: agent.is_in_sync)
        await self._until(lambda agent: agent.reported == agent.reached)
        print(json.dumps({"in_sync": len(self._agents)}), flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            revision = int(line)
            reached = await self._until(partial(_has_reached, revision))
            reported = await self._until(partial(_has_reported, revision))
            lines = sum(agent.lines for agent in self._agents)
            print(json.dumps({"reached": reached, "reported": reported, "lines": lines}), flush=True)

    async def _until(self, condition: Callable[[Agent], bool]) -> float:
        """Return the time at which the last agent met a condition."""
        waiting = [agent for agent in self._agents if not condition(agent)]
        while waiting:
            self._moved.clear()
            await self._moved.wait()
            waiting = [agent for agent in waiting if not condition(agent)]
        return time.monotonic()

    def _wake(self) -> None:
        self._moved.set()


def _has_reached(revision: int, agent: Agent) -> bool:
    return agent.reached >= revision


def _has_reported(revision: int, agent: Agent) -> bool:
    return agent.reported >= revision


if __name__ == "__main__":
    asyncio.run(Agents(Authority.of(sys.argv[1:]), sys.stdin.readline().split()).run())
