"""A simulated host in this process: one thread with a network namespace and a /run of its own.

Whatever the thread makes, and whatever commands it starts, stays in there: the machine's /run/netns never shows it, and
all of it goes when the thread ends.
"""

import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Interface
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from overlayd.dataplane.desired.new_endpoint import NewEndpoint
from overlayd.dataplane.items import Link, NamespaceRef, State
from overlayd.dataplane.plan import Plan
from overlayd.kernel.linux import LinuxKernel
from overlayd.kernel.port import Outcome, Surroundings, Underlay
from overlayd.kernel.spaces import namespaces
from overlayd.model.address import IpAddress
from overlayd.model.ids import InterfaceName, MacAddress
from tests.support.kernel.failing_calls import Fault, under

UNDERLAY_DEVICE = "eth0"

_CLONE_NEWNS = 0x20000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000

P = ParamSpec("P")
T = TypeVar("T")


class SimulatedHost:
    """A host with `lo` and one underlay device, for use in a `with` statement."""

    def __init__(self, underlay: IPv4Interface, mtu: int = 1500) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._underlay = underlay
        self._mtu = mtu

    def __enter__(self) -> Self:
        self.run(_isolate)
        # A bridge without ports, as not every machine has dummy devices.
        device = f"link add {UNDERLAY_DEVICE} mtu {self._mtu} type bridge"
        address = f"address add {self._underlay} dev {UNDERLAY_DEVICE}"
        self.command(["ip", "-batch", "-"], f"link set lo up\n{device}\n{address}\nlink set {UNDERLAY_DEVICE} up\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function on this host."""
        return self._executor.submit(function, *args, **kwargs).result()

    def run_under(self, fault: Fault, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function on this host, where a system call fails."""
        return self.run(under, fault, lambda: function(*args, **kwargs))

    def command(self, words: list[str], text: str = "") -> str:
        """Run a command on this host and return its output; one that fails is an AssertionError."""
        done = self.run(subprocess.run, words, input=text, text=True, capture_output=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return str(done.stdout)


def _isolate() -> None:
    namespaces.unshare(namespaces.CLONE_NEWNET | _CLONE_NEWNS)
    # Otherwise the mounts below would spread to the machine, where / is shared.
    namespaces.mount("none", "/", "none", _MS_PRIVATE | _MS_REC)
    namespaces.mount("tmpfs", "/run", "tmpfs", 0)


class HostedKernel:
    """The real kernel, as an agent on a simulated host sees it. Starting another one is restarting the agent."""

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host
        self._kernel = host.run(LinuxKernel)
        self.fault: Fault | None = None
        """What fails in each call, if anything does."""

    def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self.fault:
            return self._host.run_under(self.fault, function, *args, **kwargs)
        return self._host.run(function, *args, **kwargs)

    def namespaces(self) -> frozenset[NamespaceRef]:
        return self._call(self._kernel.namespaces)

    def sandbox_id(self, sandbox: str) -> tuple[int, int] | None:
        return self._call(self._kernel.sandbox_id, sandbox)

    def own(self, sandbox_id: tuple[int, int]) -> NamespaceRef | None:
        return self._call(self._kernel.own, sandbox_id)

    def is_found(self, ns: NamespaceRef) -> bool:
        return self._host.run(self._kernel.is_found, ns)

    def is_in_place(self, ns: NamespaceRef) -> bool:
        return self._host.run(self._kernel.is_in_place, ns)

    def has_device(self, ns: NamespaceRef, name: InterfaceName) -> bool:
        return self._call(self._kernel.has_device, ns, name)

    def links(self, namespaces: Iterable[NamespaceRef]) -> frozenset[Link]:
        return self._call(self._kernel.links, namespaces)

    def observe(self, namespaces: Iterable[NamespaceRef]) -> State:
        return self._call(self._kernel.observe, namespaces)

    def missing(self, items: State) -> State:
        return self._call(self._kernel.missing, items)

    def link(self, ns: NamespaceRef, name: InterfaceName) -> Link | None:
        return self._call(self._kernel.link, ns, name)

    def apply(self, plan: Plan) -> tuple[Outcome, ...]:
        return self._call(self._kernel.apply, plan)

    def attach(self, endpoints: Sequence[NewEndpoint]) -> tuple[Outcome | None, ...]:
        return self._call(self._kernel.attach, endpoints)

    def reap(self, namespaces: Iterable[NamespaceRef]) -> None:
        self._call(self._kernel.reap, namespaces)

    def announce(self, ns: NamespaceRef, dev: InterfaceName, mac: MacAddress, addresses: Iterable[IpAddress]) -> None:
        self._call(self._kernel.announce, ns, dev, mac, addresses)

    def underlay(self, address: IpAddress, peers: Iterable[IpAddress]) -> Underlay:
        return self._call(self._kernel.underlay, address, peers)

    def leftovers(self) -> frozenset[NamespaceRef]:
        return self._call(self._kernel.leftovers)

    def prepare(self) -> None:
        self._call(self._kernel.prepare)

    def shortage(self) -> str | None:
        return self._call(self._kernel.shortage)

    def fileno(self) -> int:
        return self._kernel.fileno()

    def changed(self) -> frozenset[NamespaceRef]:
        return self._call(self._kernel.changed)

    def revived(self) -> frozenset[tuple[NamespaceRef, InterfaceName]]:
        return self._call(self._kernel.revived)

    def surroundings(self) -> Surroundings:
        return self._call(self._kernel.surroundings)

    def admit_uplinks(self) -> bool:
        return self._call(self._kernel.admit_uplinks)

    def close(self) -> None:
        self._call(self._kernel.close)
