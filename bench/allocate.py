"""Blocks per second when 64 hosts request them at once, over HTTPS and without, and in large and small ranges."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from bench.controllers.stores import STORES, controller_process, helper, overlay_on, store_of
from bench.reporting.report import Report
from controller.journal.actor import BY_CONTROLLER
from controller.overlay import Overlay
from controller.store.port import Committed, Compare, PutKey, Store, Transaction
from overlayd.model.address import Family, IpNetwork
from overlayd.model.ids import HostId, NetworkName, Revision
from overlayd.model.network import Pool, Topology

HOSTS = 64
BLOCKS = 4
"""For each host and round."""

FROM_SMALL_POOL = 24
"""Blocks that are taken of the smallest pools, which have 32: /24 in /29, and /120 in /125. More would raise alarms."""

POOL_ROUNDS = 4
"""How many times as many rounds the pools get: each is short, and what is written to disk takes one time or another."""

POOLS = {
    "/24": Pool(IPv4Network("10.0.0.0/24"), 29),
    "/8": Pool(IPv4Network("10.0.0.0/8"), 29),
    "/120": Pool(IPv6Network("fd00::/120"), 125),
    "/48": Pool(IPv6Network("fd00::/48"), 125),
}

Times = list[float]


async def measure(report: Report) -> None:
    rounds = 2 if report.quick else 10
    for kind in STORES:
        async with store_of(kind) as store, overlay_on(store) as overlay:
            await _against_the_store(report, kind, store, overlay, rounds)
            if kind == "embedded":
                await _pools(report, overlay, POOL_ROUNDS * rounds)
    await _over_https(report, rounds)


async def _against_the_store(report: Report, kind: str, store: Store, overlay: Overlay, rounds: int) -> None:
    hosts = await _hosts(overlay)
    step = report.step(f"allocate, {kind}", rounds)
    ours, peer, latencies = Times(), Times(), Times()
    for number in range(rounds):
        name = await _network(overlay, f"n{number}", Pool(IPv4Network("10.0.0.0/8"), 26))
        rate, times = await _timed([_blocks(overlay, name, host) for host in hosts])
        ours.append(rate)
        latencies += times
        rate, _ = await _timed([_swaps(store, number, host) for host in hosts])
        peer.append(rate)
        report.progress.advance(step)
    case = f"{kind}/{HOSTS} hosts"
    report.compare(case, "blocks/s", ours, "raw compare-and-swap", peer, more=True)
    report.tell(f"{case}/latency", "ms", [1000 * each for each in latencies])


async def _pools(report: Report, overlay: Overlay, rounds: int) -> None:
    """Allocate the same number of blocks from large pools and from small ones, and compare the time of each."""
    hosts = [HostId(f"h{number}") for number in range(FROM_SMALL_POOL)]
    for large, small in (("/8", "/24"), ("/48", "/120")):
        step = report.step(f"allocate, {large} against {small}", rounds)
        times: dict[str, Times] = {large: [], small: []}
        for number in range(rounds):
            for which in (large, small) if number % 2 else (small, large):
                name = await _network(overlay, f"p{large[1:]}-{which[1:]}-{number}", POOLS[which])
                family = POOLS[which].family
                started = time.perf_counter()
                for host in hosts:
                    await overlay.blocks.acquire(BY_CONTROLLER, name, host, [], family)
                times[which].append(1000 * (time.perf_counter() - started) / len(hosts))
            report.progress.advance(step)
        report.compare(f"{large} against {small}", "ms", times[large], small, times[small], more=False)


async def _over_https(report: Report, rounds: int) -> None:
    step = report.step("allocate, over HTTPS", rounds)
    rates, latencies = Times(), Times()
    with controller_process() as controller, helper("block_asker", controller) as asker:
        async with controller.administrator() as api:
            for number in range(HOSTS):
                body = {"name": "x", "address": str(IPv4Address("192.0.2.0") + number + 1), "instance": "i"}
                (await api.put(f"/v1/hosts/h{number}", json=body)).raise_for_status()
            for number in range(rounds):
                network = {"name": f"n{number}", "pools": [{"range": "10.0.0.0/8"}]}
                (await api.post("/v1/networks", json=network)).raise_for_status()
                asked = {"network": f"n{number}", "hosts": HOSTS, "blocks": BLOCKS}
                found = await asker.ask(json.dumps(asked))
                if number:  # the first one opened the connections
                    rates.append(HOSTS * BLOCKS / found["taken"])
                    latencies += found["each"]
                report.progress.advance(step)
    report.tell(f"over HTTPS, {HOSTS} hosts", "blocks/s", rates, more=True)
    report.tell(f"over HTTPS, {HOSTS} hosts/latency", "ms", [1000 * each for each in latencies])


async def _timed(tasks: list[Callable[[], Awaitable[Times]]]) -> tuple[float, Times]:
    """Run tasks concurrently; return the operations per second of all, and the seconds that each operation took."""
    started = time.perf_counter()
    found = await asyncio.gather(*(task() for task in tasks))
    times = [each for times in found for each in times]
    return len(times) / (time.perf_counter() - started), times


def _blocks(overlay: Overlay, name: NetworkName, host: HostId) -> Callable[[], Awaitable[Times]]:
    async def acquire() -> Times:
        times, held = Times(), list[IpNetwork]()
        for _ in range(BLOCKS):
            started = time.perf_counter()
            held.append((await overlay.blocks.acquire(BY_CONTROLLER, name, host, held, Family.V4)).result.cidr)
            times.append(time.perf_counter() - started)
        return times

    return acquire


def _swaps(store: Store, number: int, host: HostId) -> Callable[[], Awaitable[Times]]:
    async def swap() -> Times:
        times = Times()
        for block in range(BLOCKS):
            started = time.perf_counter()
            key = f"/raw/{number}/{host}/{block}"
            ops = (PutKey(key, b'{"v":2}'), PutKey(f"{key}/beside", b'{"v":2}'))
            outcome = await store.commit(Transaction((Compare(key, Revision(0)),), ops))
            if not isinstance(outcome, Committed):
                raise TypeError("a new key was there already")
            times.append(time.perf_counter() - started)
        return times

    return swap


async def _hosts(overlay: Overlay) -> list[HostId]:
    for number in range(HOSTS):
        address = IPv4Address("192.0.2.0") + number + 1
        await overlay.hosts.register(BY_CONTROLLER, HostId(f"h{number}"), "x", address, "i")
    return [HostId(f"h{number}") for number in range(HOSTS)]


async def _network(overlay: Overlay, name: str, pool: Pool) -> NetworkName:
    return (await overlay.networks.create(BY_CONTROLLER, NetworkName(name), (pool,), Topology.ROUTED, None)).result.name
