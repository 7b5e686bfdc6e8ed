"""The stages of an ADD: the launcher alone, the agent's answer over its socket, and the kernel's part of that."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface
from itertools import count, islice
from typing import ParamSpec

from bench.hosts.cni_operations import MANY, NETWORK, Arena
from bench.hosts.cni_socket import execute
from bench.reporting.report import Report
from overlayd.dataplane.desired.new_endpoint import NewEndpoint
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.diff import diff, retirement
from overlayd.dataplane.items import NamespaceRef, State, network_namespace
from overlayd.dataplane.ownership import LOOPBACK, owns
from overlayd.dataplane.plan import Plan
from overlayd.kernel.netlink import link_messages
from overlayd.kernel.netlink.transport import Netlink, open_socket
from overlayd.kernel.spaces import namespaces
from overlayd.model.network import Topology
from tests.support.controllers.clusters import endpoint, example, site
from tests.support.kernel.hosted_kernel import HostedKernel, SimulatedHost

P = ParamSpec("P")

_FIRST = IPv4Address("10.32.0.0")
"""Of the example's network."""


def tell_stages(report: Report, place: Arena) -> None:
    runs = 3 if report.quick else 100
    step = report.step("stages", 3 * runs)
    launcher = []
    for number in range(runs):
        cost = place.runtime.execute(place.plugins["launcher"], "VERSION", {f"version-{number}": "launcher-0"})
        launcher.append(cost.taken)
        report.progress.advance(step)
    report.tell("stage/launcher without an agent", "ms", launcher)
    agent = []
    for number in range(runs):
        started = time.perf_counter()
        execute(place.host, "ADD", NETWORK, f"stage-{number}", "launcher-0")
        agent.append(1e3 * (time.perf_counter() - started))
        execute(place.host, "DEL", NETWORK, f"stage-{number}", "launcher-0")
        place.settle(frozenset())
        report.progress.advance(step)
    report.tell("stage/agent, asked over its socket", "ms", agent)
    for what, found in _in_the_kernel(runs).items():
        report.tell(f"stage/{what}", "ms", found)
    report.progress.advance(step, runs)


def _in_the_kernel(runs: int) -> Mapping[str, list[float]]:
    """Attach endpoints with the planner and the kernel only; return the milliseconds of each endpoint, by stage.

    A change that changes nothing takes what the kernel's lock for all network configuration of the machine takes:
    every plugin waits for it, and for whatever else on the machine holds it.
    """
    found: dict[str, list[float]] = defaultdict(list)
    with SimulatedHost(IPv4Interface("192.0.2.1/24")) as host:
        kernel = HostedKernel(host)
        known = example(Topology.ROUTED)
        kernel.apply(diff(resolve(known, site(), []), frozenset()))
        (network,) = known.networks.values()
        ns, numbers = network_namespace(network.name), count(2)
        netlink = host.run(lambda: Netlink(open_socket()))
        nothing = link_messages.changed(LOOPBACK, up=True)
        for number in range(runs):
            for at_once in (1, *([MANY] if number % MANY == 0 else [])):
                ones = [endpoint(1, f"c{each}", str(_FIRST + each)) for each in islice(numbers, at_once)]
                for one in ones:
                    host.run(namespaces.create, NamespaceRef(one.sandbox))
                wanted = [NewEndpoint(network, one, site().mtu) for one in ones]
                how = "one at a time" if at_once == 1 else f"{at_once} together"
                _timed(found[f"plan, {how}"], at_once, _plans, wanted)
                _timed(found[f"plan and kernel, {how}"], at_once, kernel.attach, wanted)
                owned = State().union(*(filter(owns, each.items) for each in wanted))
                _timed(found[f"out of use, {how}"], at_once, kernel.apply, retirement(owned))
                kernel.reap([ns])
                for one in ones:
                    host.run(namespaces.delete, NamespaceRef(one.sandbox))
            _timed(found["a change that changes nothing"], 1, host.run, netlink.execute, nothing)
        netlink.close()
        kernel.close()
    return found


def _plans(wanted: Sequence[NewEndpoint]) -> list[Plan]:
    return [each.plan for each in wanted]


def _timed(found: list[float], count: int, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Add the milliseconds that some work takes for each of so many endpoints."""
    started = time.perf_counter()
    work(*args, **kwargs)
    found.append((time.perf_counter() - started) * 1e3 / count)
