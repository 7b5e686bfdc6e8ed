"""The stages of an ADD: the launcher alone, the agent's answer over its socket, and the kernel's part of that."""

import json
import socket
import time
from ipaddress import IPv4Interface
from pathlib import Path

from bench.cni_operations import Arena
from bench.report import Report
from overlayd.dataplane.desired.endpoint import resolve_endpoint
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.spaces import namespaces
from overlayd.model.network import Topology
from tests.support.controllers.clusters import endpoint, example, site
from tests.support.kernel.hosted_kernel import HostedKernel, SimulatedHost
from tests.support.lab.lab import plugin_config


def tell_stages(report: Report, place: Arena) -> None:
    runs = 3 if report.quick else 100
    step = report.step("stages", 3 * runs)
    launcher = []
    for number in range(runs):
        taken = place.runtime.execute(place.plugins["launcher"], "VERSION", {f"version-{number}": "launcher-0"})
        launcher.append(taken.together)
        report.progress.advance(step)
    report.tell("stage/launcher without an agent", "ms", launcher)
    agent = []
    for number in range(runs):
        agent.append(_asked(place, "ADD", f"stage-{number}"))
        _asked(place, "DEL", f"stage-{number}")
        report.progress.advance(step)
    report.tell("stage/agent, asked over its socket", "ms", agent)
    kernel = _applied(runs)
    report.progress.advance(step, runs)
    report.tell("stage/plan and kernel", "ms", kernel)


def _asked(place: Arena, command: str, container: str) -> float:
    """Send a request to the agent as the launcher does; return the time until its answer in milliseconds."""
    variables = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": "/run/netns/launcher-0",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
    }
    head = "".join(f"{name}={value}\0" for name, value in variables.items())
    started = time.perf_counter()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.connect(str(Path(f"/proc/{place.host.pid}/root/run/overlayd/cni.sock")))
        channel.sendall(f"{head}\0{json.dumps(plugin_config('blue'))}".encode())
        channel.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: channel.recv(65536), b""))
    taken = (time.perf_counter() - started) * 1e3
    if not answer.startswith(b"0"):
        raise ChildProcessError(f"{command} failed: {answer.decode()}")
    return taken


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
