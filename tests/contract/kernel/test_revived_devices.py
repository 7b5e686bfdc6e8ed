"""What a sandbox loses as its device is set down comes back when the device is up again."""

from dataclasses import replace
from pathlib import Path

import pytest

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.dataplane.desired.endpoint import host_end, resolve_endpoint
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.diff import diff, retirement
from overlayd.dataplane.items import Link, NamespaceRef, network_namespace
from overlayd.dataplane.ownership import owns
from overlayd.model.ids import InterfaceName, MacAddress, NetworkName
from overlayd.model.network import Topology, Uplink
from tests.support.agents.agents import Host, asked
from tests.support.agents.loopback import claims_of, client_of, unused_url
from tests.support.controllers.clusters import dual, endpoint, site
from tests.support.kernel.worlds import World, enforce

pytestmark = pytest.mark.anyio

BLUE = NetworkName("blue")
NS = network_namespace(BLUE)
LOCAL = endpoint(1, "web", "10.32.0.5,fd00:32::5")
ETH0 = InterfaceName("eth0")
SANDBOX = NamespaceRef("/run/netns/c1")


def test_a_device_that_came_up_again_is_told_once_and_a_new_one_never(world: World, topology: Topology) -> None:
    world.add_sandbox(LOCAL.sandbox)
    (network,) = dual(topology).networks.values()
    items = resolve_endpoint(network, LOCAL, site().mtu)
    enforce(world, resolve(dual(topology), site(), []))
    for _ in range(2):
        assert all(outcome.done for outcome in world.kernel.apply(diff(items, frozenset())))
        world.kernel.observe({NS})
        assert world.kernel.revived() == frozenset()
        for _ in range(2):
            world.flap(LOCAL.sandbox, ETH0)
            world.kernel.observe({NS})
            assert world.kernel.revived() == {(NS, host_end(LOCAL.key))}
            assert world.kernel.revived() == frozenset()
        # The next one has the same name, and mostly the same index.
        assert all(outcome.done for outcome in world.kernel.apply(retirement(frozenset(filter(owns, items)))))
        world.kernel.reap({NS})


@pytest.mark.parametrize("egress", [True, False])
async def test_routes_neighbours_and_addresses_come_back(
    world: World,
    topology: Topology,
    tmp_path: Path,
    egress: bool,  # noqa: FBT001 - a case
) -> None:
    known = dual(topology)
    network = replace(known.networks[BLUE], uplink=Uplink.AUTO, egress=egress)
    world.add_sandbox(SANDBOX)
    async with client_of(await unused_url()) as client:
        feed = ClusterFeed(client, known.changed(known.revision, [network]), claims_of(client))
        async with Host(world, tmp_path, feed, client).agent() as agent:
            await agent.attachments.attach(asked("c1", SANDBOX))
            (mine,) = agent.records.endpoints
            items = resolve_endpoint(network, mine, site().mtu)
            link = next(item for item in items if isinstance(item, Link) and item.ns == SANDBOX and item.name == ETH0)
            own = replace(link, mac=MacAddress("02:00:00:00:00:99"), mtu=1400)  # as a later plugin may have it
            world.change_by_hand(own, link)
            world.flap(SANDBOX, ETH0)
            assert world.kernel.missing(items - {link})
            await agent.cycle()
            assert world.kernel.missing(items - {link} | {own}) == frozenset()
