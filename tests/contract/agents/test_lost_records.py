"""Records that are lost under running containers: whatever lives stays attached, and no address is given out twice."""

from pathlib import Path

import pytest

from overlayd.dataplane.desired.endpoint import host_end
from overlayd.dataplane.items import Link, NamespaceRef, network_namespace
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import NetworkName
from tests.support.agents.agents import Agent, Host, asked, named
from tests.support.kernel.worlds import World, observed
from tests.support.lab.processes import eventually

pytestmark = pytest.mark.anyio

BLUE = network_namespace(NetworkName("blue"))
WEB, DB = "/run/netns/web", "/run/netns/db"


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Where the agents of the host keep their records."""
    return tmp_path / "attachments"


def only(records: Path) -> Path:
    """Return the only record."""
    (path,) = records.iterdir()
    return path


async def attached(host: Host, agent: Agent, name: str = "web") -> Endpoint:
    """Attach a container; return its endpoint."""
    sandbox = f"/run/netns/{name}"
    host.world.add_sandbox(sandbox)
    await agent.attachments.attach(asked(name, sandbox))
    return next(each for each in agent.records.endpoints if each.container_id == name)


def end_of(world: World, endpoint: Endpoint) -> Link:
    """Return the host's end of an endpoint's veth pair."""
    return next(link for link in world.kernel.links({BLUE}) if link.name == host_end(endpoint.key))


def make_blank(world: World, endpoint: Endpoint) -> None:
    """Let an interface be as an agent left it that wrote nothing on it."""
    end = end_of(world, endpoint)
    world.change_by_hand(Link(end.ns, end.name, end.kind, end.mac, end.mtu, end.up, end.port), end)


async def test_records_are_made_again_of_what_interfaces_say(host: Host, records: Path) -> None:
    async with host.agent() as agent:
        endpoint = await attached(host, agent)
        before, known = observed(host.world), agent.records.attachments[endpoint.key]
    only(records).unlink()

    async with host.agent() as agent:
        assert agent.records.endpoints == (endpoint,)
        assert agent.records.attachments[endpoint.key].sandbox_id == known.sandbox_id
        assert (await agent.cycle()).problems == ()
        assert observed(host.world) == before
        other = await attached(host, agent, "db")
        assert set(other.addresses).isdisjoint(endpoint.addresses)
        for name in ("web", "db"):
            await agent.attachments.detach(named(name))
        await agent.attachments.reaper.free(endpoint)
        assert host.world.devices(NamespaceRef(WEB)) == {"lo"}


async def test_an_empty_record_is_made_again_too(host: Host, records: Path) -> None:
    async with host.agent() as agent:
        endpoint = await attached(host, agent)
        before = observed(host.world)
    path = only(records)
    path.write_bytes(b"")
    async with host.agent() as agent:
        assert agent.records.endpoints == (endpoint,)
        assert (await agent.cycle()).problems == ()
        assert observed(host.world) == before


async def test_a_container_that_is_out_of_reach_keeps_its_interface(host: Host, records: Path) -> None:
    async with host.agent() as agent:
        endpoint = await attached(host, agent)
        before = observed(host.world)
    only(records).unlink()
    host.world.hide_sandbox(WEB)
    host.world.add_sandbox(WEB)  # another one, at the same path
    async with host.agent() as agent:
        assert agent.records.endpoints == (endpoint,)
        await agent.cycle()
        assert observed(host.world) == before
        assert host.world.devices(NamespaceRef(WEB)) == {"lo"}
        await agent.attachments.detach(named("web"))
        assert endpoint.key not in agent.records.attachments


async def test_addresses_of_an_interface_that_says_nothing_are_withheld_until_it_is_gone(
    host: Host, records: Path
) -> None:
    async with host.agent() as agent:
        endpoint = await attached(host, agent)
        make_blank(host.world, endpoint)
        before = observed(host.world)
    path = only(records)
    path.write_bytes(b"")

    async with host.agent() as agent:
        problems = [str(problem) for problem in (await agent.cycle()).problems]
        assert [host_end(endpoint.key) in problem or ".damaged" in problem for problem in problems] == [True, True]
        assert observed(host.world) == before
        assert agent.records.addresses(endpoint.network) == set(endpoint.addresses)
        other = await attached(host, agent, "db")
        assert set(other.addresses).isdisjoint(endpoint.addresses)
        assert (records / f"{path.name}.damaged").read_bytes() == b""

        host.world.remove_sandbox(WEB)
        eventually(lambda: not host.world.kernel.has_device(BLUE, host_end(endpoint.key)), "the pair is gone")
        (records / f"{path.name}.damaged").unlink()
        assert (await agent.cycle()).problems == ()
        assert agent.records.addresses(endpoint.network) == set(other.addresses)


async def test_an_interface_that_says_nothing_is_let_go_of_in_a_network_that_is_forgotten_too(
    host: Host, records: Path
) -> None:
    async with host.agent() as agent:
        endpoint = await attached(host, agent)
        make_blank(host.world, endpoint)
    only(records).unlink()
    host.forget(endpoint.network)
    async with host.agent() as agent:
        assert {each.object for each in agent.problems} >= {
            "network blue",
            f"interface {host_end(endpoint.key)} of network blue",
        }
        host.world.remove_sandbox(WEB)
        eventually(lambda: not host.world.kernel.has_device(BLUE, host_end(endpoint.key)), "the pair is gone")
        assert (await agent.cycle()).problems == ()


async def test_a_del_finds_an_interface_that_says_nothing(host: Host, records: Path) -> None:
    async with host.agent() as agent:
        endpoint = await attached(host, agent)
        make_blank(host.world, endpoint)
    only(records).unlink()
    async with host.agent() as agent:
        await agent.attachments.detach(named("web"))
        assert agent.records.strays == frozenset()
        await agent.cycle()
        assert host.world.devices(NamespaceRef(WEB)) == {"lo"}
        assert host_end(endpoint.key) not in host.world.devices(BLUE)
        assert agent.records.addresses(endpoint.network) == set()
