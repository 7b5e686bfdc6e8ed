"""Memory of a controller with 1,000 hosts, 100 networks, 50,000 endpoints and an agent of each host, over TLS."""

import asyncio
import time
from ipaddress import IPv4Address, IPv4Network

import httpx

from bench.controllers.http_connection import Connection
from bench.controllers.stores import controller_process, helper
from bench.hosts.process_costs import resident_megabytes
from bench.reporting.report import Report

NETWORKS_OF_A_HOST = 5
ENDPOINTS_OF_A_BLOCK = 10


async def measure(report: Report) -> None:
    hosts, networks = (50, 10) if report.quick else (1000, 100)
    with controller_process() as controller, helper("feed_reader", controller) as readers:
        async with controller.administrator() as api:
            for number in range(networks):
                made = {"name": f"n{number}", "pools": [{"range": "10.0.0.0/8"}]}
                (await api.post("/v1/networks", json=made)).raise_for_status()
            step = report.step("hosts, blocks and endpoints", hosts)
            turns = asyncio.Semaphore(32)

            async def settle(number: int) -> None:
                async with turns:
                    await _settle(api, number, networks)
                    report.progress.advance(step)

            await asyncio.gather(*(settle(number) for number in range(hosts)))
        pid = controller.process.pid.number
        without = resident_megabytes(pid)
        readers.tell(" ".join(f"h{number}" for number in range(hosts)))
        await readers.answer()
        latencies = await _blocks(report, Connection(controller.authority()), hosts, networks)
        whole = resident_megabytes(pid)
    report.tell("without feeds", "MB", [without])
    report.tell("with a feed of each host", "MB", [whole])
    report.tell("a block, under that load", "ms", latencies)


async def _blocks(report: Report, connection: Connection, hosts: int, networks: int) -> list[float]:
    """Ask for one block after another; the agents of the network hear of each, and report. Return the milliseconds."""
    count = min(hosts, 500)
    step = report.step("blocks under load", count)
    latencies = []
    for number in range(count):
        started = time.perf_counter()
        body = {"host": f"h{number}", "family": 4, "held": []}
        await connection.ask("POST", f"/v1/networks/n{(number + NETWORKS_OF_A_HOST) % networks}/blocks", body)
        latencies.append(1000 * (time.perf_counter() - started))
        report.progress.advance(step)
    return latencies


async def _settle(api: httpx.AsyncClient, number: int, networks: int) -> None:
    """Register a host, and give it blocks and endpoints in some networks."""
    host = f"h{number}"
    address = str(IPv4Address("10.200.0.0") + number + 1)
    (await api.put(f"/v1/hosts/{host}", json={"name": host, "address": address, "instance": "i"})).raise_for_status()
    endpoints = []
    for offset in range(NETWORKS_OF_A_HOST):
        name = f"n{(number + offset) % networks}"
        answer = await api.post(f"/v1/networks/{name}/blocks", json={"host": host, "family": 4})
        answer.raise_for_status()
        block = IPv4Network(answer.json()["cidr"])
        endpoints += [
            {
                "network": name,
                "container_id": f"{host}-{offset}-{each}".ljust(64, "0"),
                "interface": f"eth{offset}",
                "addresses": [str(block[each + 2])],
                "mac": f"02:00:{number >> 8:02x}:{number & 255:02x}:{offset:02x}:{each:02x}",
                "sandbox": f"/run/netns/{host}-{offset}-{each}",
            }
            for each in range(ENDPOINTS_OF_A_BLOCK)
        ]
    (await api.put(f"/v1/hosts/{host}/endpoints", json={"endpoints": endpoints})).raise_for_status()
