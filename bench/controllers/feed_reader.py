"""Simulated agents, in a process of their own, so that they do not slow the controller or the benchmark down.

`python -m bench.controllers.feed_reader PORT CA_FILE TOKEN_FILE` reads the ids of hosts from a line of stdin. Each host
joins, follows its feed, and reports the revision that it has got, as often as an agent does once it has programmed it.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from bench.controllers.http_connection import Authority, Connection
from overlayd.agent.holdings.status_report import PACE

_UNDER_WAY = 64
"""How many agents open a connection or send a report at a time: a controller admits 128 connections of one address that
have shown no token yet, and real agents have an address each."""


class Agent:
    """One host: a connection for its feed and one for its reports."""

    def __init__(
        self, authority: Authority, host: str, under_way: asyncio.Semaphore, moved: Callable[[], None]
    ) -> None:
        self._authority = authority
        self._host = host
        self._under_way = under_way
        self._moved = moved
        self._to_report = asyncio.Event()
        self.is_in_sync = False
        self.lines = 0
        self.reached = 0
        self.reported = 0

    async def follow(self) -> None:
        async with self._under_way:
            reader, writer = await self._authority.open()
            path = f"/v1/feed?host={self._host}&instance=i&version=2"
            writer.write(f"GET {path} HTTP/1.0\r\n{self._authority.head}\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
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
            async with self._under_way:
                await connection.ask("POST", f"/v1/hosts/{self._host}/report", body)
            self.reported = revision
            self._moved()
            await asyncio.sleep(PACE)


class Agents:
    """All of them, and answers about when they had what."""

    def __init__(self, credentials: dict[str, Authority]) -> None:
        under_way = asyncio.Semaphore(_UNDER_WAY)
        self._agents = [Agent(authority, host, under_way, self._wake) for host, authority in credentials.items()]
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


async def joined(authority: Authority, hosts: list[str]) -> dict[str, Authority]:
    """Let hosts join, each with a token of its own: a controller bounds the connections of one token."""
    connection = Connection(authority)
    made = await connection.ask("POST", "/v1/tokens", {"kind": "join", "hosts": len(hosts)})
    found = {}
    for host in hosts:
        credential = await connection.ask("POST", "/v1/join", {"token": made["token"], "host": host})
        found[host] = replace(authority, token=str(credential["token"]))
    return found


async def main() -> None:
    hosts = sys.stdin.readline().split()
    await Agents(await joined(Authority.of(sys.argv[1:]), hosts)).run()


if __name__ == "__main__":
    asyncio.run(main())
