"""Every test that asks for `world` runs on the kernel in memory and on that of this machine."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.model.network import Topology
from overlayd.wire.feed import InSync, Snapshot
from tests.support.agents.agents import Host
from tests.support.agents.loopback import claims_of, client_of, controller, following, in_sync, unused_url
from tests.support.controllers.clusters import example
from tests.support.kernel.worlds import World, fake_world, linux_world


@pytest.fixture(params=["fake", "linux"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "linux":
        request.getfixturevalue("root")
    with linux_world() if request.param == "linux" else fake_world() as made:
        yield made


@pytest.fixture(params=list(Topology))
def topology(request: pytest.FixtureRequest) -> Topology:
    return Topology(request.param)


@pytest.fixture(params=["controllers away", pytest.param("in sync", marks=pytest.mark.thorough)])
async def host(request: pytest.FixtureRequest, world: World, tmp_path: Path, topology: Topology) -> AsyncIterator[Host]:
    """A host that knows the example. While controllers are away, its agents delete nothing that they do not know."""
    known = example(topology)
    if request.param == "controllers away":
        async with client_of(await unused_url()) as client:
            yield Host(world, tmp_path, ClusterFeed(client, known, claims_of(client)), client)
        return
    async with controller() as server, following(server) as feed, client_of(server) as client:
        await (await server.feeds.get()).send(Snapshot(known.revision, tuple(known.records)), InSync(known.revision))
        await in_sync(feed)
        yield Host(world, tmp_path, feed, client)
