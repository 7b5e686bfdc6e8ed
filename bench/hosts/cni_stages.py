"""The stages of an ADD: the launcher alone, the agent's answer over its socket, and the kernel's part of that."""

import time
from ipaddress import IPv4Interface

from bench.hosts.cni_operations import NETWORK, Arena
from bench.hosts.cni_socket import execute
from bench.reporting.report import Report
from overlayd.dataplane.desired.endpoint import resolve_endpoint
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.spaces import namespaces
from overlayd.model.network import Topology
from tests.support.controllers.clusters import endpoint, example, site
from tests.support.kernel.hosted_kernel import HostedKernel, SimulatedHost


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
    kernel = _applied(runs)
    report.progress.advance(step, runs)
    report.tell("stage/plan and kernel", "ms", kernel)


def _applied(runs: int) -> list[float]:
    """Attach endpoints with the planner and the kernel only; return the milliseconds of each."""
    found = []
    with SimulatedHost(IPv4Interface("192.0.2.1/24")) as host:
        kernel = HostedKernel(host)
        known = example(Topology.ROUTED)
        kernel.apply(diff(resolve(known, site(), []), frozenset()))
        (network,) = known.networks.values()
        for number in range(runs):
            one = endpoint(1, f"c{number}", f"10.32.0.{number + 2}")
            host.run(namespaces.create, NamespaceRef(one.sandbox))
            started = time.perf_counter()
            kernel.apply(diff(resolve_endpoint(network, one, site().mtu), frozenset()))
            found.append((time.perf_counter() - started) * 1e3)
        kernel.close()
    return found
