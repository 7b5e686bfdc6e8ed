"""A host that an older agent cut off from what it needs, and one that begins with such a cluster in its cache."""

from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from overlayd.agent.controllers.client import ControllerClient
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.desired.uplink import host_device
from overlayd.dataplane.items import HOST, Address, Bridge, Item, Link, Route
from overlayd.model.cluster import Cluster
from overlayd.model.ids import InterfaceName, MacAddress, NetworkName, Revision
from overlayd.model.network import Topology, Uplink
from tests.support.agents.agents import Agent, Host, asked
from tests.support.agents.loopback import claims_of, client_of, unused_url
from tests.support.controllers import clusters
from tests.support.kernel.worlds import World, enforce, observed

pytestmark = pytest.mark.anyio

BLUE = NetworkName("blue")
OV100 = host_device(clusters.network().vni)
LATER = clusters.host(9, "10.32.0.1")
"""A host whose tunnel end is in the range of `blue`; it is the address, too, that host 1 has there."""


@pytest.fixture
async def client() -> AsyncIterator[ControllerClient]:
    """A client whose controllers are all away."""
    async with client_of(await unused_url()) as made:
        yield made


@pytest.fixture(params=[Uplink.HOST, Uplink.AUTO])
def known(request: pytest.FixtureRequest) -> Cluster:
    made = clusters.dual(Topology.ROUTED)
    return made.changed(Revision(2), [replace(made.networks[BLUE], uplink=request.param)])


def claims(world: World) -> list[Item]:
    """Return what takes addresses of IPv4 in the range of `blue` away from the underlay."""
    found = (item for item in observed(world) if item.ns == HOST)
    ranges = (ip_network("10.32.0.0/16"), ip_network("10.32.0.1/32"))
    return [
        item
        for item in found
        if (isinstance(item, Route) and item.dst in ranges)
        or (isinstance(item, Address) and item.address.network in ranges)
    ]


def reported(agent: Agent) -> list[str]:
    return [str(problem) for problem in agent.problems if "isolated on this host" in problem.message]


async def test_what_an_older_agent_installed_goes_although_no_controller_answers(
    world: World, tmp_path: Path, client: ControllerClient, known: Cluster
) -> None:
    enforce(world, resolve(known, clusters.site(), []))
    assert len(claims(world)) == 2
    cached = known.changed(Revision(3), [LATER])
    async with Host(world, tmp_path, ClusterFeed(client, cached, claims_of(client)), client).agent() as agent:
        assert claims(world) == []
        assert reported(agent) == [
            "network blue: isolated on this host, as its range 10.32.0.0/16 holds 10.32.0.1, the VTEP of host node-9"
        ]
        assert {item.name for item in observed(world) if isinstance(item, Link)} >= {"vx0", "up0", OV100}


async def test_a_start_with_such_a_cluster_in_the_cache_gives_the_range_nothing(
    world: World, tmp_path: Path, client: ControllerClient, known: Cluster
) -> None:
    feed = ClusterFeed(client, known.changed(Revision(3), [LATER]), claims_of(client))
    async with Host(world, tmp_path, feed, client).agent() as agent:
        assert claims(world) == []
        assert len(reported(agent)) == 1
        feed.cluster = known
        await agent.cycle()
        assert len(claims(world)) == 2, "it is a member again as soon as it can be one"
        assert reported(agent) == []


async def test_a_gateway_is_given_back_also_by_an_agent_that_knows_no_cluster(
    world: World, tmp_path: Path, client: ControllerClient, known: Cluster
) -> None:
    enforce(world, resolve(known, clusters.site(), []))
    device = InterfaceName("foreign0")
    world.add_by_hand(Link(HOST, device, Bridge(), MacAddress("02:00:00:00:00:09"), 1500))
    world.add_by_hand(Address(HOST, device, ip_interface("203.0.113.1/32")))
    world.add_by_hand(Route(HOST, ip_network("0.0.0.0/0"), device, ip_address("10.32.9.9"), 4000))
    async with Host(world, tmp_path, ClusterFeed(client, Cluster(), claims_of(client)), client).agent():
        assert [item for item in claims(world) if isinstance(item, Route)] == []


async def test_a_network_that_the_cluster_forgot_leaves_the_host_its_lifelines_and_its_containers_the_rest(
    world: World, tmp_path: Path, client: ControllerClient, known: Cluster
) -> None:
    feed = ClusterFeed(client, known, claims_of(client))
    world.add_sandbox("/run/netns/c1")
    async with Host(world, tmp_path, feed, client).agent() as agent:
        await agent.attachments.attach(asked("c1", "/run/netns/c1"))
        await agent.cycle()
        before = observed(world)
        lost = clusters.cluster([clusters.host(1)], revision=3)
        feed.cluster = lost
        await agent.cycle()
        assert len(claims(world)) == 2
        feed.cluster = lost.changed(Revision(4), [LATER])
        await agent.cycle()
        assert claims(world) == []
        assert len(reported(agent)) == 1
        assert {item for item in before if item.ns != HOST} <= observed(world)
