"""Whatever many callers do at once at two controllers, the store keeps its promises."""

import asyncio
import random
from itertools import combinations
from pathlib import Path

import pytest

from controller.services import keys
from controller.services.overlay import Overlay
from controller.store.port import KeyValue, Store
from overlayd.model.address import overlap
from overlayd.model.cluster import Cluster
from overlayd.model.errors import OverlayError, Unavailable
from overlayd.model.ids import HostId, HostNumber, NetworkName
from overlayd.model.network import NetworkState
from tests.unit.controller.overlays import (
    controllers,
    make_endpoint,
    make_host,
    make_network,
    pool,
    stored,
    told,
    whole_cluster,
)

pytestmark = pytest.mark.anyio

NAMES = [NetworkName("blue"), NetworkName("red")]
HOSTS = 6


async def act(overlay: Overlay, chance: random.Random) -> None:
    """Do one thing that a host or an administrator could do now."""
    name, number = chance.choice(NAMES), chance.randint(1, HOSTS)
    host = HostId(f"h{number}")
    own = overlay.blocks.select(name, host)
    match chance.randrange(7):
        case 0:
            await make_network(overlay, name, pool("10.32.0.0/24", 28))
        case 1:
            await overlay.networks.delete(name)
        case 2:
            await make_host(overlay, number)
        case 3 | 4:
            await overlay.blocks.acquire(name, host, [block.cidr for block in own])
        case 5 if own:
            await overlay.blocks.release(name, chance.choice(own).cidr, host)
        case 6 if own:
            endpoint = make_endpoint(chance.choice(own), chance.randint(2, 9))
            await overlay.endpoints.replace(host, [endpoint] if chance.random() < 0.5 else [])
        case _:
            pass


def assert_sound(cluster: Cluster, items: dict[str, KeyValue]) -> None:
    for network in cluster.networks.values():
        blocks = [block for block in cluster.blocks.values() if block.network == network.name]
        assert network.state is NetworkState.ACTIVE or blocks
        assert not any(overlap(one.cidr, other.cidr) for one, other in combinations(blocks, 2))
        assert all(network.pool_of(block.cidr) for block in blocks)
    for block in cluster.blocks.values():
        assert block.network in cluster.networks
        assert block.host in cluster.hosts
    for endpoint in cluster.endpoints.values():
        assert any(
            endpoint.network == block.network
            and endpoint.host == block.host
            and all(address in block.cidr for address in endpoint.addresses)
            for block in cluster.blocks.values()
        )
    claims = {key for key in items if key.split("/")[3] in {"vnis", "numbers", "vteps"}}
    assert claims == {
        *(keys.vni(network.vni) for network in cluster.networks.values()),
        *(keys.number(HostNumber(host.number)) for host in cluster.hosts.values()),
        *(keys.vtep(host.address) for host in cluster.hosts.values()),
    }


async def check(store: Store) -> None:
    assert_sound(await whole_cluster(store), await stored(store))


@pytest.mark.parametrize("seed", range(12))
async def test_two_controllers_keep_the_store_sound(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with controllers(tmp_path, 2) as (store, both):
        done = 0
        for _ in range(40):
            acts = [act(chance.choice(both), chance) for _ in range(chance.randint(1, 12))]
            for outcome in await asyncio.gather(*acts, return_exceptions=True):
                assert outcome is None or (isinstance(outcome, OverlayError) and not isinstance(outcome, Unavailable))
                done += outcome is None
            await check(store)
        assert done > 100
        for overlay in both:
            await overlay.mirror.reached(await store.current_revision())
            assert told(await whole_cluster(store), HostId("h1")).hosts == overlay.mirror.intent.hosts
