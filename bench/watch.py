"""Changes per second to 200 feeds of one controller, their delay, and the time in which a store watch resumes."""

import asyncio
import json
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from subprocess import Popen

import httpx

from bench.report import Report
from bench.stores import controller_process, etcd_store, readers
from controller.store.port import Committed, PutKey, Transaction
from tests.support.controllers.etcd import EtcdCluster

FEEDS = 200
AGENTS = 1000


async def measure(report: Report) -> None:
    await _feeds(report, 20 if report.quick else FEEDS, 20 if report.quick else 300, budget=None)
    await _feeds(report, 50 if report.quick else AGENTS, 10 if report.quick else 60, budget=1000)
    for fault, most in (("kill", 1.0), ("freeze", 5.0)):
        runs = 1 if report.quick else 5
        step = report.step(f"watch, {fault}", runs)
        gaps = []
        for _ in range(runs):
            gaps.append(await _resumption(fault))
            report.progress.advance(step)
        report.bound(f"store watch resumes after a {fault}", "s", gaps, most)


async def _feeds(report: Report, feeds: int, changes: int, budget: float | None) -> None:
    """Rename hosts, a change that every feed carries, first as fast as possible and then one at a time."""
    hosts = [f"h{number}" for number in range(feeds)]
    with controller_process() as controller:
        async with httpx.AsyncClient(base_url=controller.url, timeout=60, trust_env=False) as api:
            for number, host in enumerate(hosts):
                await _register(api, host, number, "x")
            with readers(controller.url, hosts) as reader:
                await _said(reader)
                step = report.step(f"watch, {feeds} feeds", 2 * changes)
                before = (await _asked(reader, 0))["lines"]
                started = time.monotonic()
                revision = 0
                for change in range(changes):
                    revision = await _register(api, hosts[0], 0, f"fast-{change}")
                    report.progress.advance(step)
                last = await _asked(reader, revision)
                lines, seconds = last["lines"] - before, last["at"] - started
                late = []
                for change in range(changes):
                    revision = await _register(api, hosts[0], 0, f"slow-{change}")
                    acknowledged = time.monotonic()
                    late.append(1000 * max(0.0, (await _asked(reader, revision))["at"] - acknowledged))
                    report.progress.advance(step)
    report.tell(f"{feeds} feeds/as fast as it goes", "lines/s", [lines / seconds])
    name = f"{feeds} feeds/from the answer to the last feed"
    if budget is None:
        report.tell(name, "ms", late)
    else:
        report.bound(name, "ms", late, budget)


async def _resumption(fault: str) -> float:
    """Return the longest delay of a change, in seconds, after a fault of the watched node; none is lost or repeated.

    The delay counts from the acknowledgement of the change: while the nodes elect a leader there are no writes.
    """
    with EtcdCluster(3) as cluster:
        watched = etcd_store(cluster.url)
        others = etcd_store(f"etcd://{','.join(node.endpoint for node in cluster.nodes[1:])}")
        start = await others.current_revision()
        arrived: list[tuple[float, int]] = []
        written: dict[int, float] = {}

        async def write() -> None:
            while True:
                outcome = await others.commit(Transaction((), (PutKey("/t/x", b"%d" % len(written)),)))
                if isinstance(outcome, Committed):
                    written[outcome.revision] = time.monotonic()
                await asyncio.sleep(0.01)

        async def read() -> None:
            async for changes in watched.watch("/t/", start):
                arrived.append((time.monotonic(), changes.revision))  # noqa: PERF401 - it never ends

        tasks = [asyncio.create_task(write()), asyncio.create_task(read())]
        try:
            await _until(lambda: len(arrived) > 20)
            cut = time.monotonic()
            (cluster.kill if fault == "kill" else cluster.freeze)(0)
            before = len(arrived)
            await _until(lambda: len(arrived) > before + 50)
            tasks[0].cancel()
            await asyncio.wait(tasks[:1])
            await _until(lambda: arrived[-1][1] >= max(written))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await watched.close()
            await others.close()
        seen = [revision for _, revision in arrived]
        if seen != sorted(set(seen)) or not written.keys() <= set(seen):
            raise ValueError("the watch lost or repeated a change")
        return max(at - written[revision] for at, revision in arrived if written.get(revision, 0) >= cut)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what happens in between is what is measured
            await asyncio.sleep(0.01)


async def _register(api: httpx.AsyncClient, host: str, number: int, name: str) -> int:
    body = {"name": name, "address": str(IPv4Address("10.200.0.0") + number + 1), "instance": "i"}
    answer = await api.put(f"/v1/hosts/{host}", json=body)
    answer.raise_for_status()
    revision: int = answer.json()["revision"]
    return revision


async def _asked(reader: Popen[str], revision: int) -> dict[str, float]:
    assert reader.stdin  # noqa: S101 - it is a pipe
    reader.stdin.write(f"{revision}\n")
    return await _said(reader)


async def _said(reader: Popen[str]) -> dict[str, float]:
    assert reader.stdout  # noqa: S101 - it is a pipe
    line = await asyncio.to_thread(reader.stdout.readline)
    found: dict[str, float] = json.loads(line)
    return found
