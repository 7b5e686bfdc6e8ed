"""Stations on a segment accept an announcement, also one that arrives by the tunnel's port."""

import errno
import json
from dataclasses import replace

import pytest

from overlayd.dataplane import ownership
from overlayd.dataplane.desired.endpoint import host_end
from overlayd.dataplane.desired.resolve import resolve
from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import NamespaceRef, SourceGuard, network_namespace
from overlayd.kernel.port import KernelError
from overlayd.model.ids import InterfaceName, MacAddress, NetworkName
from overlayd.model.network import Topology
from tests.support.controllers.clusters import HERE, dual, endpoint, site
from tests.support.kernel.hosted_kernel import HostedKernel, SimulatedHost
from tests.support.kernel.worlds import UNDERLAY, World, enforce
from tests.support.lab.processes import eventually

pytestmark = pytest.mark.usefixtures("root")

MOVED = MacAddress("02:00:00:00:00:50")
SOURCE, LISTENER = endpoint(1, "web", "10.32.0.5,fd00:32::5"), endpoint(1, "db", "10.32.0.6,fd00:32::6")


def test_an_announcement_replaces_what_a_container_believes() -> None:
    with SimulatedHost(UNDERLAY) as host:
        kernel = HostedKernel(host)
        for each in (SOURCE, LISTENER):
            host.command(["ip", "netns", "add", each.container_id])
        known = dual(Topology.SWITCHED)
        known = known.changed(known.revision, [replace(known.hosts[HERE], address=UNDERLAY.ip)])
        wanted = resolve(known, site(), [SOURCE, LISTENER])
        # Unguarded, the one container stands for every other station on the segment.
        guard = SourceGuard(
            network_namespace(NetworkName("blue")), host_end(SOURCE.key), SOURCE.mac, frozenset(SOURCE.addresses)
        )
        outcomes = kernel.apply(diff(wanted - {guard}, frozenset()))
        assert [outcome for outcome in outcomes if not outcome.done] == []

        def believed() -> set[str]:
            listed = host.command(["ip", "-n", LISTENER.container_id, "-j", "neighbour", "show", "dev", "eth0"])
            addresses = {str(address) for address in SOURCE.addresses}
            return {each["lladdr"] for each in json.loads(listed) if each["dst"] in addresses}

        for address in SOURCE.addresses:
            host.command(["ip", "netns", "exec", LISTENER.container_id, "ping", "-nc1", "-W2", str(address)])
        assert believed() == {SOURCE.mac}
        kernel.announce(NamespaceRef(SOURCE.sandbox), SOURCE.interface, MOVED, SOURCE.addresses)
        eventually(lambda: believed() == {MOVED}, "the container believes the announcement")
        kernel.close()


def test_what_cannot_be_announced_says_why(world: World) -> None:
    world.add_sandbox(SOURCE.sandbox)
    known = dual(Topology.SWITCHED)
    known = known.changed(known.revision, [replace(known.hosts[HERE], address=UNDERLAY.ip)])
    enforce(world, resolve(known, site(), [SOURCE]))
    ns = network_namespace(NetworkName("blue"))
    world.kernel.announce(ns, ownership.VXLAN, MOVED, SOURCE.addresses)
    with pytest.raises(KernelError) as caught:
        world.kernel.announce(ns, InterfaceName("ve9"), MOVED, SOURCE.addresses)
    assert caught.value.errno == errno.ENODEV
