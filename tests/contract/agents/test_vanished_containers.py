"""Containers that vanish without a DEL: their addresses are freed when the kernel proves them unused, not before."""

import pytest

from overlayd.agent.attach.leaks import Leaks
from overlayd.dataplane.desired.endpoint import host_end
from overlayd.dataplane.items import Link, NamespaceRef, State, network_namespace
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import NetworkName
from tests.support.agents.agents import Agent, Host, asked, named
from tests.support.kernel.worlds import World, observed
from tests.support.lab.processes import eventually

pytestmark = pytest.mark.anyio

BLUE = network_namespace(NetworkName("blue"))
WEB = "/run/netns/web"
GRACE = 60.0


class Watch:
    """Time, which passes when the test says so, and who looks then."""

    def __init__(self, agent: Agent) -> None:
        self.seconds = 0.0
        self.leaks = Leaks(agent.attachments, agent.records, GRACE, lambda: self.seconds)

    async def look(self, after: float) -> None:
        self.seconds += after
        await self.leaks.look()


async def attached(host: Host, agent: Agent) -> Endpoint:
    """Attach a container; return its endpoint."""
    host.world.add_sandbox(WEB)
    await agent.attachments.attach(asked("web", WEB))
    (endpoint,) = agent.records.endpoints
    return endpoint


def wait_for_its_end(world: World, endpoint: Endpoint) -> None:
    """Return when the kernel has taken apart what the container had: it does so at its leisure."""
    eventually(lambda: not world.kernel.has_device(BLUE, host_end(endpoint.key)), "the pair is gone")


async def test_what_a_container_had_is_free_some_time_after_its_end(host: Host) -> None:
    async with host.agent() as agent:
        empty = observed(host.world)
        endpoint, watch = await attached(host, agent), Watch(agent)
        await watch.look(after=1)
        host.world.remove_sandbox(WEB)
        wait_for_its_end(host.world, endpoint)

        for after in (GRACE, GRACE - 1):
            await watch.look(after)
            assert agent.records.endpoints == (endpoint,), "a DEL may be on its way"
        await watch.look(after=1)
        assert agent.records.endpoints == ()
        await agent.cycle()
        assert observed(host.world) == empty

        await agent.attachments.detach(named("web"))
        host.world.add_sandbox(WEB)
        again = await agent.attachments.attach(asked("web", WEB))
        assert again.addresses
        assert {each.interface.ip for each in again.addresses}.isdisjoint(endpoint.addresses), (
            "what was just freed rests"
        )


async def test_a_container_whose_path_is_gone_keeps_all_that_it_has(host: Host) -> None:
    async with host.agent() as agent:
        endpoint, watch = await attached(host, agent), Watch(agent)
        there = observed(host.world)
        host.world.hide_sandbox(WEB)
        await watch.look(after=0)
        await watch.look(after=10 * GRACE)
        await agent.cycle()
        assert agent.records.endpoints == (endpoint,)
        assert observed(host.world) == there


async def test_another_sandbox_at_its_path_is_left_alone(host: Host) -> None:
    async with host.agent() as agent:
        endpoint, watch = await attached(host, agent), Watch(agent)
        there = observed(host.world)
        host.world.hide_sandbox(WEB)
        host.world.add_sandbox(WEB)
        pair = one_link(there, endpoint)
        host.world.change_by_hand(Link(pair.ns, pair.name, pair.kind, pair.mac, 1000), pair)
        await agent.cycle()
        await watch.look(after=0)
        await watch.look(after=GRACE)
        assert observed(host.world) == there
        assert host.world.devices(NamespaceRef(WEB)) == {"lo"}


def one_link(state: State, endpoint: Endpoint) -> Link:
    (found,) = (item for item in state if isinstance(item, Link) and item.name == host_end(endpoint.key))
    return found


async def test_an_interface_that_somebody_removed_by_hand_is_no_proof(host: Host) -> None:
    async with host.agent() as agent:
        endpoint, watch = await attached(host, agent), Watch(agent)
        assert host.world.remove_by_hand(one_link(observed(host.world), endpoint))
        await watch.look(after=0)
        await watch.look(after=GRACE)
        assert agent.records.endpoints == (endpoint,)


async def test_time_begins_anew_with_what_is_attached_anew(host: Host) -> None:
    async with host.agent() as agent:
        endpoint, watch = await attached(host, agent), Watch(agent)
        for _ in range(3):
            host.world.remove_sandbox(WEB)
            wait_for_its_end(host.world, endpoint)
            await watch.look(after=GRACE - 1)
            await agent.attachments.detach(named("web"))
            endpoint = await attached(host, agent)
        await watch.look(after=GRACE - 1)
        assert agent.records.endpoints == (endpoint,)
