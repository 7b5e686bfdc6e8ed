"""The soak: hosts at work on several controllers and an etcd cluster, with faults at random, and the verdict."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random

import httpx

from controller.clock import SystemClock
from controller.state import keys
from controller.store.etcd.cluster import EtcdCluster as Endpoints
from controller.store.etcd.store import EtcdStore
from controller.store.port import KeyValue, Store
from overlayd.agent.controllers.client import Controllers
from overlayd.model.address import Family
from overlayd.model.cluster import Cluster, Record, RecordKey
from overlayd.model.ids import NetworkName, ReservationName, Revision
from overlayd.wire import records
from overlayd.wire.fields import Fields, Json
from tests.soak.calls import Calls, Tally
from tests.soak.chaos import Chaos
from tests.soak.host import Shared, SimulatedHost
from tests.soak.verdict import Entry, RecordChange, judge
from tests.support.controllers.etcd import EtcdCluster
from tests.support.controllers.overlays import visible_to
from tests.support.controllers.processes import LocalController
from tests.support.lab.processes import NotInTime

_QUIET = 60.0
"""Seconds that everything has to come to rest after the last fault."""

_LOOK = 0.1
"""Seconds between two looks whether it has."""

_NETWORKS: dict[str, dict[str, Json]] = {
    "shared-a": {"pools": [{"range": "10.32.0.0/16"}]},
    "shared-b": {"pools": [{"range": "10.32.0.0/16"}], "topology": "switched"},
    "shared-c": {"pools": [{"range": "10.64.0.0/15"}, {"range": "fd00:64::/48"}]},
}
_FAMILIES = {"shared-c": (Family.V4, Family.V6)}


@dataclass(frozen=True, slots=True)
class Options:
    """How long, with how many hosts, each of which does something every `pause` seconds; times in seconds."""

    seconds: float
    hosts: int
    pause: float
    seed: int
    directory: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened, and every fault that was found."""

    tally: Tally
    chaos: dict[str, int]
    acknowledged: int
    history: int
    stored: dict[str, int]
    revision: Revision
    faults: tuple[str, ...]


async def soak(options: Options) -> Outcome:
    """Run a soak to its end and judge it. Everything that it starts ends with it."""
    async with AsyncExitStack() as stack:
        etcd = stack.enter_context(EtcdCluster(3, flags=("--quota-backend-bytes", str(4 * 2**30))))
        controllers = [
            LocalController(
                f"controller{index}",
                options.directory,
                *("--store", etcd.url, "--quarantine", "5", "--history-count", "10000000"),
            )
            for index in range(3)
        ]
        for controller in controllers:
            stack.callback(partial(_end, controller))
            await asyncio.to_thread(controller.start)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        # As an agent does it: what is given up is gone.
        linger = [(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))]
        transport = httpx.AsyncHTTPTransport(limits=limits, trust_env=False, socket_options=linger)
        http = await stack.enter_async_context(httpx.AsyncClient(transport=transport, trust_env=False))
        tally = Tally()
        urls = [controller.api_url for controller in controllers]
        shared = await _shared(Calls(http, Controllers(urls), tally, Random(options.seed)), options.hosts)
        hosts = []
        for number in range(1, options.hosts + 1):
            start, seed = number % len(urls), options.seed * 100_000 + number
            known = Controllers([*urls[start:], *urls[:start]])
            hosts.append(SimulatedHost(number, shared, Calls(http, known, tally, Random(seed)), known, seed))
        chaos = Chaos(controllers, etcd, options.seed)
        await _live(hosts, chaos, options)
        store = await stack.enter_async_context(_opened(etcd))
        await _come_to_rest(controllers, etcd, hosts, store)
        for url in urls:
            await _until(partial(_all_connected, http, url, hosts), f"{url} counts every host as connected")
        faults = [*tally.defects, *await _misled(hosts, store)]
        for host in hosts:
            await host.end()
        return await _judged(tuple(faults), hosts, store, chaos, tally)


def _end(controller: LocalController) -> None:
    if controller.process:
        controller.process.kill()


async def _shared(calls: Calls, hosts: int) -> Shared:
    """Make what all hosts use: networks, and reservations, of which there are fewer than hosts."""
    wanted = []
    for name, body in _NETWORKS.items():
        assert (await calls.ask("create shared", "POST", "/v1/networks", {"name": name, **body})).is_done
        for number in range(max(hosts // 10, 2)):
            path, reservation = f"/v1/networks/{name}/reservations", f"vip-{number}"
            assert (await calls.ask("create shared", "POST", path, {"name": reservation})).is_done
            wanted.append((NetworkName(name), ReservationName(reservation)))
    families = {NetworkName(name): _FAMILIES.get(name, (Family.V4,)) for name in _NETWORKS}
    return Shared(families, tuple(wanted))


async def _live(hosts: list[SimulatedHost], chaos: Chaos, options: Options) -> None:
    """Let hosts live and faults happen for so long; return when every host has had its last answer."""
    harmless, stop = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for host in hosts:
            tasks.create_task(host.run(options.pause, stop), name=host.id)
        harming = tasks.create_task(chaos.run(harmless), name="chaos")
        await asyncio.sleep(options.seconds)
        harmless.set()
        await harming
        stop.set()


@asynccontextmanager
async def _opened(etcd: EtcdCluster) -> AsyncIterator[Store]:
    store = EtcdStore(Endpoints(tuple(node.endpoint for node in etcd.nodes)), SystemClock())
    try:
        yield store
    finally:
        await store.close()


async def _come_to_rest(
    controllers: list[LocalController], etcd: EtcdCluster, hosts: list[SimulatedHost], store: Store
) -> None:
    """Return when everything is up, and every host knows the last change; raise `NotInTime`."""
    await asyncio.to_thread(etcd.await_health)
    for controller in controllers:
        await asyncio.to_thread(controller.await_ready)
    found = await store.get(keys.INTENT)
    last = found.mod_revision if found else Revision(0)
    for host in hosts:
        await _until(partial(_knows, host, last), f"{host.id} knows revision {last}")


async def _knows(host: SimulatedHost, revision: Revision) -> bool:
    return host.feed is not None and host.feed.in_sync and host.feed.cluster.revision >= revision


async def _until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Return when a condition holds; raise `NotInTime`."""
    deadline = asyncio.get_running_loop().time() + _QUIET
    while not await condition():
        if asyncio.get_running_loop().time() > deadline:
            raise NotInTime(f"not within {_QUIET:.0f} s after the last fault: {what}")
        await asyncio.sleep(_LOOK)


async def _misled(hosts: list[SimulatedHost], store: Store) -> list[str]:
    """Return the hosts whose feeds made them know something else than they must."""
    whole = Cluster().changed(Revision(0), (await _stored_records(store)).values())
    wrong = []
    for host in hosts:
        known = replace(host.feed.cluster, revision=Revision(0), lineage=None) if host.feed else Cluster()
        if known != visible_to(whole, host.id):
            wrong.append(f"{host.id} knows something else than what is stored")
    return wrong


async def _all_connected(http: httpx.AsyncClient, url: str, hosts: list[SimulatedHost]) -> bool:
    """Return whether a controller counts every host as connected."""
    listed = Fields((await http.get(f"{url}/v1/hosts", params={"limit": 1000}, timeout=30)).json()).objects("items")
    return {item.text("id") for item in listed if item.value["connected"]} == {host.id for host in hosts}


async def _judged(
    faults: tuple[str, ...], hosts: list[SimulatedHost], store: Store, chaos: Chaos, tally: Tally
) -> Outcome:
    stored, history = await _stored_records(store), [_entry(item) for item in await _everything(store, keys.HISTORY)]
    acknowledged = [each for host in hosts for each in host.notes.acknowledged]
    remembered = {host.id: host.notes.mine for host in hosts}
    found = judge(history, stored, acknowledged, remembered)
    return Outcome(
        tally=tally,
        chaos=dict(chaos.faults),
        acknowledged=len(acknowledged),
        history=len(history),
        stored={name: sum(isinstance(r, kind) for r in stored.values()) for name, kind in records.KINDS.items()},
        revision=await store.current_revision(),
        faults=(*faults, *found),
    )


async def _stored_records(store: Store) -> dict[RecordKey, Record]:
    found = [
        keys.decode_record(each.key, each.value)[0]
        for each in await _everything(store, keys.PREFIX)
        if keys.is_record(each.key)
    ]
    return {RecordKey.of(record): record for record in found}


async def _everything(store: Store, prefix: str) -> list[KeyValue]:
    page = await store.page(prefix)
    items = list(page.items)
    while page.more:
        page = await store.page(prefix, after_key=items[-1].key, revision=page.revision)
        items += page.items
    return items


def _entry(item: KeyValue) -> Entry:
    changes = []
    for change in keys.decode(item.value).objects("changes"):
        if change.text("kind") in records.KINDS:
            decode = records.DECODERS[records.KINDS[change.text("kind")]]
            before, after = (decode(change.object(side)) if change.has(side) else None for side in ("before", "after"))
            changes.append(RecordChange(RecordKey.of(after or before), before, after))  # type: ignore[arg-type]
    return Entry(item.mod_revision, tuple(changes))
