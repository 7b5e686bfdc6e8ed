"""A request that is cancelled at any point of its work, and once more while it cleans up, leaves nothing half made."""

import asyncio
import errno
import threading
from collections.abc import Awaitable
from itertools import count

import pytest
from structlog.testing import capture_logs

from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.port import KernelError
from overlayd.model.network import Topology
from overlayd.wire.cni.requests import Command
from tests.contract.agents.test_killed_agents import is_in_force
from tests.support.agents.agents import Agent, Host, asked, frame, named
from tests.support.kernel.worlds import observed

pytestmark = pytest.mark.anyio


async def done(work: Awaitable[object]) -> None:
    await work


async def cancelled(agent: Agent, command: Command, container: str, sandbox: str, at: int) -> tuple[bool, bool]:
    """Execute a request and cancel it at a call of the kernel or of the records; tell whether it came to that.

    The second result tells whether the request was cut short.
    """
    attachments, loop, calls = agent.attachments, asyncio.get_running_loop(), count(1)
    if command is Command.ADD:
        task = asyncio.ensure_future(done(attachments.attach(asked(container, sandbox))))
    else:
        task = asyncio.ensure_future(attachments.detach(named(container)))
    came = False

    def cancel(times: int) -> None:
        task.cancel()
        if times:
            loop.call_soon(cancel, times - 1)

    def interrupt() -> None:
        nonlocal came
        if next(calls) == at:
            came = True
            loop.call_soon_threadsafe(cancel, 2)

    agent.life.at_each = interrupt
    await asyncio.wait([task])
    agent.life.at_each = lambda: None
    return came, task.cancelled()


async def test_an_add_that_is_cancelled_leaves_nothing_or_is_whole(host: Host, topology: Topology) -> None:
    async with host.agent():
        pass  # the network is in force then
    empty, cut_short = observed(host.world), 0
    for at in count(1):
        container, sandbox = f"c{at}", f"/run/netns/c{at}"
        host.world.add_sandbox(sandbox)
        async with host.agent() as agent:
            came, was_cancelled = await cancelled(agent, Command.ADD, container, sandbox, at)
            cut_short += was_cancelled
            if not was_cancelled:
                assert is_in_force(host.world, topology, agent)
                await agent.attachments.detach(named(container))
            assert agent.records.endpoints == ()
            host.world.kernel.reap(host.world.kernel.namespaces())
        assert observed(host.world) == empty
        assert host.world.devices(NamespaceRef(sandbox)) == {"lo"}
        if not came:
            break
    assert cut_short > 3


async def test_a_del_that_is_cancelled_while_it_removes_is_whole(host: Host) -> None:
    async with host.agent():
        pass
    empty, cut_short = observed(host.world), 0
    for at in count(1):
        container, sandbox = f"c{at}", f"/run/netns/c{at}"
        host.world.add_sandbox(sandbox)
        async with host.agent() as agent:
            await agent.attachments.attach(asked(container, sandbox))
            came, was_cancelled = await cancelled(agent, Command.DEL, container, sandbox, at)
            cut_short += was_cancelled
            assert agent.records.endpoints == ()
            assert agent.attachments.changes.count == 2, "its coming and its going are published"
            host.world.kernel.reap(host.world.kernel.namespaces())
        assert observed(host.world) == empty
        if not came:
            break
    assert cut_short > 0


async def test_a_request_that_is_cut_short_is_one_line_of_the_log(host: Host) -> None:
    host.world.add_sandbox("/run/netns/web")
    async with host.agent() as agent:
        task = asyncio.ensure_future(agent.cni.answer(frame(Command.ADD, "web", "/run/netns/web")))
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            loop.call_soon_threadsafe(task.cancel)

        agent.life.at_each = interrupt
        with capture_logs() as logs:
            await asyncio.wait([task])
    assert task.cancelled()
    assert [(line["command"], line["container"], line["interface"]) for line in logs] == [("ADD", "web", "eth0")]


async def test_a_del_that_the_kernel_refuses_succeeds_and_is_done_later(host: Host) -> None:
    async with host.agent():
        pass
    empty = observed(host.world)
    host.world.add_sandbox("/run/netns/web")

    def refuse() -> None:
        raise KernelError(errno.ENOMEM, "no memory for now")

    async with host.agent() as agent:
        await agent.attachments.attach(asked("web", "/run/netns/web"))
        agent.life.at_each = refuse
        with capture_logs() as logs:
            assert await agent.cni.answer(frame(Command.DEL, "web", "/run/netns/web")) == b"0"
            await agent.queue.drain()
        assert ["no memory for now" in line["reason"] for line in logs] == [True, True]
        assert [endpoint.container_id for endpoint in agent.records.endpoints] == ["web"], "its address is not free"
        agent.life.at_each = lambda: None
        await agent.queue.drain()
        assert agent.records.endpoints == ()
        host.world.kernel.reap(host.world.kernel.namespaces())
    assert observed(host.world) == empty


async def test_a_del_does_not_overtake_an_add_that_waits_for_a_queued_del(host: Host) -> None:
    """A runtime that gave up on the ADD of a container which it starts again sends its DEL at once."""
    async with host.agent():
        pass
    empty = observed(host.world)
    host.world.add_sandbox("/run/netns/web")
    loop, has_begun, may_go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def wait() -> None:
        loop.call_soon_threadsafe(has_begun.set)
        may_go_on.wait(60)

    async with host.agent() as agent:
        await agent.attachments.attach(asked("web", "/run/netns/web"))
        agent.queue.put(frame(Command.DEL, "web", "/run/netns/web"))
        agent.life.at_each = wait
        add = asyncio.create_task(agent.cni.answer(frame(Command.ADD, "web", "/run/netns/web")))
        await has_begun.wait()
        late = asyncio.create_task(agent.cni.answer(frame(Command.DEL, "web", "/run/netns/web")))
        await asyncio.sleep(0)
        may_go_on.set()
        assert (await add)[:1] == b"0"
        assert await late == b"0"
        assert agent.records.endpoints == ()
        host.world.kernel.reap(host.world.kernel.namespaces())
    assert observed(host.world) == empty
