"""An agent that is killed at any step of an ADD or a DEL leaves nothing that the next request does not mend."""

from itertools import count

import pytest

from overlayd.dataplane.desired.endpoint import resolve_endpoint
from overlayd.dataplane.items import NamespaceRef, State
from overlayd.model.errors import AlreadyExists
from overlayd.model.network import Topology
from overlayd.wire.cni.requests import Command
from tests.support.agents.agents import Agent, Host, asked, named
from tests.support.agents.mortal import Died
from tests.support.controllers.clusters import example, site
from tests.support.kernel.worlds import World, observed

pytestmark = pytest.mark.anyio


def is_in_force(world: World, topology: Topology, agent: Agent) -> bool:
    """Tell whether everything that the records say is in the kernel."""
    (network,) = example(topology).networks.values()
    items: State = frozenset().union(
        *(resolve_endpoint(network, each, site().mtu) for each in agent.records.endpoints),
    )
    return not world.kernel.missing(items)


async def add_after(agent: Agent, container: str, sandbox: str) -> None:
    """Let a runtime ask again: where it gets no answer, a DEL comes first (CNI SPEC, section "DEL")."""
    try:
        await agent.attachments.attach(asked(container, sandbox))
    except AlreadyExists:
        await agent.attachments.detach(named(container))
        await agent.attachments.attach(asked(container, sandbox))


MENDS = ("add", "del", "gc")


async def mend(agent: Agent, how: str, container: str, sandbox: str) -> None:
    match how:
        case "add":
            await add_after(agent, container, sandbox)
        case "del":
            await agent.attachments.detach(named(container))
        case _:
            await agent.collect()


async def killed(on: Host, command: Command, steps: int, container: str, sandbox: str) -> bool:
    """Let an agent die at a step of a request; tell whether it did before the request was done."""
    async with on.agent() as agent:
        if command is Command.DEL:
            await agent.attachments.attach(asked(container, sandbox))
        agent.life.steps = steps
        try:
            if command is Command.ADD:
                await agent.attachments.attach(asked(container, sandbox))
            else:
                await agent.attachments.detach(named(container))
        except Died:
            return True
    return False


@pytest.mark.parametrize("command", [Command.ADD, Command.DEL])
@pytest.mark.parametrize("how", MENDS)
async def test_the_next_request_mends_whatever_a_killed_agent_left(
    host: Host, topology: Topology, command: Command, how: str
) -> None:
    async with host.agent():
        pass  # the network is in force then
    empty = observed(host.world)
    for steps in count():
        container, sandbox = f"c{steps}", f"/run/netns/c{steps}"
        host.world.add_sandbox(sandbox)
        died = await killed(host, command, steps, container, sandbox)
        async with host.agent() as agent:
            await mend(agent, how, container, sandbox)
            if how == "add":
                assert is_in_force(host.world, topology, agent)
                await agent.attachments.detach(named(container))
            assert agent.records.endpoints == ()
            host.world.kernel.reap(host.world.kernel.namespaces())
        assert observed(host.world) == empty
        assert host.world.devices(NamespaceRef(sandbox)) == {"lo"}
        if not died:
            assert steps > (1 if command is Command.DEL else 7)
            break


async def test_a_killed_agent_is_in_nobody_elses_way(host: Host, topology: Topology) -> None:
    for steps in count():
        container, sandbox, other = f"c{steps}", f"/run/netns/c{steps}", f"/run/netns/other{steps}"
        host.world.add_sandbox(sandbox)
        host.world.add_sandbox(other)
        died = await killed(host, Command.ADD, steps, container, sandbox)
        async with host.agent() as agent:
            await agent.attachments.attach(asked(f"other{steps}", other))
            assert is_in_force(host.world, topology, agent)
            addresses = [address for each in agent.records.endpoints for address in each.addresses]
            assert len(addresses) == len(set(addresses))
            await agent.collect()
        if not died:
            break
