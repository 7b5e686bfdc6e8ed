"""Changes to 200 and to 1,000 simulated agents of one controller, and the time in which a store watch resumes.

A simulated agent follows its feed and reports each revision, over TLS. What it does not do is in `busy_cluster`.
"""

import asyncio
import time
from collections.abc import Callable
from ipaddress import IPv4Address

import httpx

from bench.controllers.stores import controller_process, etcd_store, helper
from bench.reporting.report import Report
from controller.store.port import Committed, PutKey, Transaction
from tests.support.controllers.etcd import EtcdCluster

FEEDS = 200
AGENTS = 1000


async def measure(report: Report) -> None:
    await _agents(report, FEEDS, 20 if report.quick else FEEDS, 20 if report.quick else 100)
    await _agents(report, AGENTS, 50 if report.quick else AGENTS, 10 if report.quick else 60)
    for fault in ("kill", "freeze"):
        runs = 1 if report.quick else 5
        step = report.step(f"watch, {fault}", runs)
        gaps = []
        for _ in range(runs):
            gaps.append(await _resumption(fault))
            report.progress.advance(step)
        report.tell(f"store watch resumes after a {fault}", "s", gaps)


async def _agents(report: Report, named: int, agents: int, changes: int) -> None:
    """Rename hosts, a change that every feed carries, first as fast as possible and then one at a time."""
    hosts = [f"h{number}" for number in range(agents)]
    with controller_process() as controller, helper("feed_reader", controller) as readers:
        async with controller.administrator() as api:
            for number, host in enumerate(hosts):
                await _register(api, host, number, "x")
            readers.tell(" ".join(hosts))
            await readers.answer()
            step = report.step(f"watch, {agents} agents", 2 * changes)
            before = (await readers.ask("0"))["lines"]
            started = time.monotonic()
            revision = 0
            for change in range(changes):
                revision = await _register(api, hosts[0], 0, f"fast-{change}")
                report.progress.advance(step)
            last = await readers.ask(str(revision))
            lines, seconds = last["lines"] - before, last["reached"] - started
            late, reported = [], []
            for change in range(changes):
                asked = time.monotonic()
                revision = await _register(api, hosts[0], 0, f"slow-{change}")
                found = await readers.ask(str(revision))
                late.append(1000 * (found["reached"] - asked))
                reported.append(1000 * (found["reported"] - asked))
                report.progress.advance(step)
    report.tell(f"{named} agents/as fast as it goes", "lines/s", [lines / seconds], more=True)
    report.tell(f"{named} agents/from the request to the last of them", "ms", late)
    report.tell(f"{named} agents/from the request to the last report", "ms", reported)


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
