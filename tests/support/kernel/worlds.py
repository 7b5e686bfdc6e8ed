"""The two kernels that one suite tests, each with what an administrator does to it by hand."""

import json
import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface
from typing import Protocol

from overlayd.dataplane import ownership, render
from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import HOST, Item, Link, Loopback, NamespaceRef, State, Sysctl
from overlayd.dataplane.plan import Plan
from overlayd.kernel.port import Kernel, Underlay
from overlayd.kernel.spaces import namespaces
from overlayd.model.ids import InterfaceName
from tests.support.kernel.failing_calls import Fault
from tests.support.kernel.fake_kernel import FakeKernel
from tests.support.kernel.hosted_kernel import UNDERLAY_DEVICE, HostedKernel, SimulatedHost

UNDERLAY = IPv4Interface("192.0.2.1/24")


class World(Protocol):
    """A host with a kernel under test, and an administrator who changes it by hand."""

    @property
    def kernel(self) -> Kernel:
        """The kernel, as the agent that runs now sees it."""

    def restart_agent(self) -> None:
        """Let the next use of `kernel` be that of a new agent."""

    def add_sandbox(self, path: str) -> None:
        """Start a workload."""

    def remove_sandbox(self, path: str) -> None:
        """End a workload, and its sandbox with it; the kernel takes it apart some time later."""

    def hide_sandbox(self, path: str) -> None:
        """Take the path of a sandbox away, which lives on."""

    def alias_sandbox(self, path: str, ns: NamespaceRef) -> None:
        """Let a path lead to a namespace that has another name."""

    def flap(self, path: str, name: InterfaceName) -> None:
        """Let a workload set its device down and up again."""

    def add_by_hand(self, item: Item) -> None:
        """Make an item as an administrator does, without our marks."""

    def remove_by_hand(self, item: Item) -> bool:
        """Remove an item as an administrator does; return whether it existed. `lo` cannot be removed, and goes down."""

    def change_by_hand(self, item: Item, before: Item) -> None:
        """Change an item as an administrator does, without our marks."""

    def devices(self, ns: NamespaceRef) -> set[str]:
        """Return the names of all devices in a namespace, owned and foreign."""

    def change_underlay_mtu(self, mtu: int) -> None:
        """Change the MTU of the underlay's device, in bytes."""

    def obstruct(self, ns: NamespaceRef) -> None:
        """Put over the name of a namespace of ours a file that not even root may read."""

    def suffer(self, fault: Fault | None) -> None:
        """Let a system call fail in each call to the kernel from now on; with None, no longer."""


def observed(world: World) -> State:
    """Return all that is ours."""
    return world.kernel.observe(world.kernel.namespaces() | {HOST})


def reports_change(world: World, ns: NamespaceRef) -> bool:
    """Wait until the kernel reports a change in a namespace; return whether it does."""
    deadline = time.monotonic() + 3
    while (left := deadline - time.monotonic()) > 0:
        if select.select([world.kernel.fileno()], [], [], left)[0] and ns in world.kernel.changed():
            return True
    return False


class FakeWorld:
    """The kernel in memory."""

    def __init__(self) -> None:
        self._fake = FakeKernel()
        self.kernel: Kernel = self._fake

    def restart_agent(self) -> None:
        self.kernel.close()

    def add_sandbox(self, path: str) -> None:
        self._fake.add_sandbox(path)

    def remove_sandbox(self, path: str) -> None:
        self._fake.remove_sandbox(path)

    def hide_sandbox(self, path: str) -> None:
        self._fake.hide_sandbox(path)

    def alias_sandbox(self, path: str, ns: NamespaceRef) -> None:
        self._fake.alias_sandbox(path, ns)

    def flap(self, path: str, name: InterfaceName) -> None:
        self._fake.flap(path, name)

    def add_by_hand(self, item: Item) -> None:
        self._fake.add_foreign(item)

    def remove_by_hand(self, item: Item) -> bool:
        return self._fake.remove_by_hand(item)

    def change_by_hand(self, item: Item, before: Item) -> None:
        self._fake.change_by_hand(item, before)

    def devices(self, ns: NamespaceRef) -> set[str]:
        return self._fake.devices(ns)

    def obstruct(self, ns: NamespaceRef) -> None:
        self._fake.unreadable.add(ns)

    def suffer(self, fault: Fault | None) -> None:
        self._fake.failing = fault.code if fault else None

    def change_underlay_mtu(self, mtu: int) -> None:
        self._fake.set_underlay(UNDERLAY.ip, Underlay("eth0", mtu))


class LinuxWorld:
    """The kernel of this machine, on a simulated host; the administrator uses iproute2."""

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host
        self._hidden: list[int] = []
        self.kernel = HostedKernel(host)

    def restart_agent(self) -> None:
        self.kernel.close()
        self.kernel = HostedKernel(self._host)

    def obstruct(self, ns: NamespaceRef) -> None:
        self._host.command(["mount", "--bind", "/sys/bus/platform/drivers_probe", ns])

    def suffer(self, fault: Fault | None) -> None:
        self.kernel.fault = fault

    def add_sandbox(self, path: str) -> None:
        self._host.run(namespaces.create, NamespaceRef(path))

    def remove_sandbox(self, path: str) -> None:
        self._host.run(namespaces.delete, NamespaceRef(path))

    def hide_sandbox(self, path: str) -> None:
        self._hidden.append(self._host.run(namespaces.open_namespace, NamespaceRef(path)))
        self._host.run(namespaces.delete, NamespaceRef(path))

    def alias_sandbox(self, path: str, ns: NamespaceRef) -> None:
        self._host.run(os.symlink, ns, path)

    def close(self) -> None:
        self.kernel.close()
        for fd in self._hidden:
            os.close(fd)

    def flap(self, path: str, name: InterfaceName) -> None:
        for state in ("down", "up"):
            self._host.command(["nsenter", f"--net={path}", "ip", "link", "set", name, state])

    def add_by_hand(self, item: Item) -> None:
        self._host.command(["sh", "-c", _without_marks(render.added(item))])

    def remove_by_hand(self, item: Item) -> bool:
        command = _without_marks(render.deleted(item))
        if isinstance(item, Link) and isinstance(item.kind, Loopback):
            command = f"nsenter --net={item.ns} ip link set lo down"
        try:
            self._host.command(["sh", "-c", command])
        except AssertionError:
            return False
        return True

    def change_by_hand(self, item: Item, before: Item) -> None:
        self._host.command(["sh", "-c", _without_marks(render.changed(item, before))])

    def devices(self, ns: NamespaceRef) -> set[str]:
        listed = json.loads(self._host.command(["nsenter", f"--net={ns}", "ip", "-j", "link"]))
        return {device["ifname"] for device in listed}

    def change_underlay_mtu(self, mtu: int) -> None:
        self._host.command(["ip", "link", "set", UNDERLAY_DEVICE, "mtu", str(mtu)])


def _without_marks(command: str) -> str:
    return command.replace(" extern_learn", "").replace(f" proto {ownership.PROTOCOL}", "")


def enforce(world: World, desired: State) -> Plan:
    """Apply what is missing, expect that it is in force then, and return what was done."""
    plan = diff(desired, observed(world))
    refused = [outcome for outcome in world.kernel.apply(plan) if not outcome.done]
    assert not refused, [f"{each.op}: {each.error or 'skipped'}" for each in refused]
    # A sysctl of the host that no item needs any more stays as it is.
    there = {item for item in observed(world) if item in desired or not isinstance(item, Sysctl)}
    assert there ^ owned(desired) == frozenset()
    assert not diff(desired, observed(world))
    return plan


def owned(state: State) -> State:
    """Return the part of a state that is in our own namespaces: sandboxes are not observed."""
    return frozenset(item for item in state if ownership.is_observed(item.ns))


@contextmanager
def fake_world() -> Iterator[World]:
    yield FakeWorld()


@contextmanager
def linux_world() -> Iterator[World]:
    with SimulatedHost(UNDERLAY) as host:
        world = LinuxWorld(host)
        try:
            yield world
        finally:
            world.close()
