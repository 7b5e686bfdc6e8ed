"""An error of the kernel is never taken for absence, and changes nothing."""

import errno
from collections.abc import Callable
from contextlib import suppress

import pytest

from overlayd.agent.attach.leaks import Leaks
from overlayd.dataplane.desired.endpoint import host_end, resolve_endpoint
from overlayd.dataplane.items import HOST, NamespaceRef, network_namespace
from overlayd.dataplane.plan import Plan
from overlayd.kernel.port import Kernel, KernelError
from overlayd.model.errors import Unavailable
from overlayd.model.ids import NetworkName
from overlayd.model.network import Topology
from tests.contract.kernel.test_changes import LOCAL, TOPOLOGIES, started
from tests.support.agents.agents import Host, asked
from tests.support.controllers.clusters import example
from tests.support.kernel.failing_calls import REFUSALS, SHORTAGES, SYSTEM_CALLS, Fault
from tests.support.kernel.worlds import UNDERLAY, World, observed

BLUE = network_namespace(NetworkName("blue"))
END = host_end(LOCAL.key)
FAULTS = [Fault(call, code) for call in SYSTEM_CALLS for code in (*SHORTAGES, *REFUSALS)]
SANDBOX = NamespaceRef(LOCAL.sandbox)
WANTED = resolve_endpoint(example(Topology.ROUTED).networks[NetworkName("blue")], LOCAL, 1450)

Look = Callable[[Kernel], object]
_LOOKS: list[Look] = [
    lambda kernel: kernel.namespaces(),
    lambda kernel: kernel.sandbox_id(LOCAL.sandbox),
    lambda kernel: kernel.has_device(BLUE, END),
    lambda kernel: kernel.observe({BLUE, HOST}),
    lambda kernel: kernel.missing(
        resolve_endpoint(example(Topology.ROUTED).networks[NetworkName("blue")], LOCAL, 1450)
    ),
    lambda kernel: kernel.link(SANDBOX, LOCAL.interface),
    lambda kernel: kernel.underlay(UNDERLAY.ip, []),
    lambda kernel: kernel.surroundings(),
    lambda kernel: kernel.apply(Plan()),
    lambda kernel: kernel.reap({BLUE}),
]


@TOPOLOGIES
def test_a_look_that_fails_is_an_error_or_finds_what_is_there(world: World, topology: Topology) -> None:
    started(world, topology)
    there, inside = world.devices(BLUE), world.devices(SANDBOX)
    healthy = [look(world.kernel) for look in _LOOKS]
    for fault in FAULTS:
        world.suffer(fault)
        for number, look in enumerate(_LOOKS):
            with suppress(KernelError):
                assert look(world.kernel) == healthy[number], f"{fault}, look {number}"
        with suppress(KernelError):
            world.kernel.changed()
        world.suffer(None)
        assert (world.devices(BLUE), world.devices(SANDBOX)) == (there, inside), str(fault)
    assert [look(world.kernel) for look in _LOOKS] == healthy


@pytest.mark.anyio
async def test_an_agent_that_cannot_see_keeps_everything_and_says_so(host: Host) -> None:
    async with host.agent() as agent:
        host.world.add_sandbox(LOCAL.sandbox)
        await agent.attachments.attach(asked("web", LOCAL.sandbox))
        there, inside = observed(host.world), host.world.devices(SANDBOX)
        endpoints, leaks = agent.records.endpoints, Leaks(agent.attachments, agent.records, 0.0, lambda: 0.0)
        said = set()
        for fault in FAULTS:
            host.world.suffer(fault)
            said |= {fault for problem in (await agent.cycle()).problems if problem.object == "host"}
            with suppress(KernelError):
                await leaks.look()
            host.world.suffer(None)
            assert agent.records.endpoints == endpoints, str(fault)
            assert host.world.devices(SANDBOX) == inside, str(fault)
        assert {fault for fault in FAULTS if fault.call in {"openat", "getdents64"}} <= said
        assert (await agent.cycle()).problems == ()
        assert observed(host.world) == there


@pytest.mark.anyio
async def test_an_attachment_that_meets_a_fault_leaves_nothing_or_all_of_it(host: Host) -> None:
    async with host.agent() as agent:
        empty = observed(host.world)
        host.world.add_sandbox(LOCAL.sandbox)
        for fault in (Fault(call, errno.EMFILE) for call in SYSTEM_CALLS):
            request = asked("web", LOCAL.sandbox)
            host.world.suffer(fault)
            try:
                await agent.attachments.attach(request)
            except (KernelError, Unavailable):
                host.world.suffer(None)
                await agent.attachments.detach(request.name)
            else:
                host.world.suffer(None)
                assert (await agent.cycle()).problems == (), str(fault)
                assert host.world.devices(SANDBOX) == {"lo", "eth0"}, str(fault)
                await agent.attachments.detach(request.name)
            assert agent.records.endpoints == (), str(fault)
            await agent.attachments.reaper.free(LOCAL)
        await agent.cycle()
        assert observed(host.world) == empty
        assert host.world.devices(SANDBOX) == {"lo"}
