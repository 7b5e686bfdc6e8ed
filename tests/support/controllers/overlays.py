"""Controllers on one store, for tests of the services, and a reading of that store that owes them nothing."""

import asyncio
import resource
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from random import Random
from typing import TypeVar

from controller.clock import Clock, SystemClock
from controller.journal.actor import BY_CONTROLLER
from controller.overlay import Overlay
from controller.rules.defaults import HOST_BLOCKS, HOST_NETWORKS, QUARANTINE
from controller.state import keys
from controller.state.host_presence import HostPresence
from controller.store.embedded import EmbeddedStore
from controller.store.port import KeyValue, Store
from overlayd.model.address import IpAddress
from overlayd.model.block import Block
from overlayd.model.cluster import Cluster
from overlayd.model.endpoint import Endpoint
from overlayd.model.host import Host
from overlayd.model.ids import ContainerId, HostId, InterfaceName, MacAddress, NetworkName, Revision
from overlayd.model.network import Network, Pool, Topology

BLUE = NetworkName("blue")
H1 = HostId("h1")
H2 = HostId("h2")


AnyStore = TypeVar("AnyStore", bound=Store)


@asynccontextmanager
async def open_store(store: AnyStore) -> AsyncIterator[AnyStore]:
    """Run a store until the end of the block, and close it."""
    running = asyncio.create_task(store.run(), name="store")
    try:
        yield store
    finally:
        running.cancel()
        await asyncio.wait([running])
        await store.close()


@asynccontextmanager
async def store_at(path: Path, clock: Clock) -> AsyncIterator[EmbeddedStore]:
    """Open an embedded store until the end of the block."""
    async with open_store(EmbeddedStore.open(path, clock)) as store:
        yield store


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes: to SQLite, a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@asynccontextmanager
async def controller_on(  # noqa: PLR0913, PLR0917 - what a controller is made of
    store: Store,
    name: str = "c1",
    quarantine: float = QUARANTINE,
    clock: Clock | None = None,
    addresses: Collection[IpAddress] = (),
    host_networks: int = HOST_NETWORKS,
    host_blocks: int = HOST_BLOCKS,
) -> AsyncIterator[Overlay]:
    """Run a controller that dies when the context ends: it withdraws nothing."""
    clock = clock or SystemClock()
    overlay = Overlay(
        store,
        clock,
        name,
        quarantine,
        Random(name),
        addresses,
        host_networks=host_networks,
        host_blocks=host_blocks,
    )
    await overlay.load()
    running = asyncio.create_task(overlay.run(), name=name)
    try:
        yield overlay
    finally:
        running.cancel()
        await asyncio.wait([running])


@asynccontextmanager
async def controllers(
    directory: Path, number: int, quarantine: float = QUARANTINE
) -> AsyncIterator[tuple[Store, list[Overlay]]]:
    """Run so many controllers on one new store; what they give back rests for so many seconds."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(store_at(directory / "store.db", SystemClock()))
        names = [f"c{index}" for index in range(number)]
        yield store, [await stack.enter_async_context(controller_on(store, name, quarantine)) for name in names]


def pool(cidr: str = "10.32.0.0/16", block_length: int = 26) -> Pool:
    return Pool(IPv4Network(cidr), block_length)


async def make_network(
    overlay: Overlay, name: NetworkName = BLUE, of: Pool | None = None, topology: Topology = Topology.ROUTED
) -> Network:
    return (await overlay.networks.create(BY_CONTROLLER, name, (of or pool(),), topology, None)).result


async def make_host(overlay: Overlay, number: int) -> Host:
    """Register the host h<number> at 192.0.2.<number>."""
    address = IPv4Address("192.0.2.0") + number
    return (
        await overlay.hosts.register(BY_CONTROLLER, HostId(f"h{number}"), f"host {number}", address, f"i{number}")
    ).result


def make_endpoint(block: Block, offset: int, container: str | None = None) -> Endpoint:
    """Return the endpoint with the nth address of a block."""
    return Endpoint(
        network=block.network,
        container_id=ContainerId(container or f"{block.host}-{offset}"),
        interface=InterfaceName("eth0"),
        host=block.host,
        addresses=(block.cidr[offset],),
        mac=MacAddress("02:00:" + block.cidr[offset].packed[-4:].hex(":")),
        sandbox=f"/run/netns/{offset}",
    )


async def stored(store: Store) -> dict[str, KeyValue]:
    """Return every key of the store but its lineage, which has it from the start."""
    items: list[KeyValue] = []
    page = await store.page(keys.PREFIX)
    while True:
        items += page.items
        if not page.more:
            return {item.key: item for item in items if item.key != keys.LINEAGE}
        page = await store.page(keys.PREFIX, after_key=items[-1].key, revision=page.revision)


async def whole_cluster(store: Store) -> Cluster:
    """Return every record of the store."""
    found = await stored(store)
    records = [keys.decode_record(key, item.value)[0] for key, item in found.items() if keys.is_record(key)]
    revision = found[keys.INTENT].mod_revision if keys.INTENT in found else Cluster().revision
    return Cluster().changed(revision, records)


def visible_to(cluster: Cluster, host: HostId) -> Cluster:
    """Return the records of a cluster that a host must get, by the definition."""
    mine = {block.network for block in cluster.blocks.values() if block.host == host}
    switched = {name for name in mine if cluster.networks[name].topology is Topology.SWITCHED}
    return Cluster().changed(
        cluster.revision,
        [
            *cluster.hosts.values(),
            *(network for network in cluster.networks.values() if network.name in mine),
            *(block for block in cluster.blocks.values() if block.network in mine),
            *(endpoint for endpoint in cluster.endpoints.values() if endpoint.network in switched),
            *(reservation for reservation in cluster.reservations.values() if reservation.network in mine),
        ],
    )


async def until(overlay: Overlay, condition: Callable[[], bool]) -> None:
    """Return when the condition holds, which is looked at after every change of the store."""
    async with asyncio.timeout(30):
        while not condition():
            await overlay.mirror.reached(Revision(overlay.mirror.revision + 1))


async def until_heard(overlay: Overlay, host: HostId, condition: Callable[[HostPresence | None], bool]) -> None:
    """Return when what a controller hears of a host is as it should be."""
    await until(overlay, lambda: condition(overlay.mirror.presence(host)))


@asynccontextmanager
async def two_hosts_with_blocks(
    directory: Path, block_length: int = 26
) -> AsyncIterator[tuple[Store, list[Overlay], Block, Block]]:
    """Run two controllers on one store; h1 and h2 own a block each of network blue."""
    async with controllers(directory, 2) as (store, both):
        await make_network(both[0], of=pool("10.32.0.0/16", block_length))
        blocks = []
        for number, host in ((1, H1), (2, H2)):
            await make_host(both[0], number)
            blocks.append((await both[0].blocks.acquire(BY_CONTROLLER, BLUE, host, [])).result)
        await both[1].mirror.reached(both[0].mirror.revision)
        yield store, both, blocks[0], blocks[1]
