"""What the rest of the agent needs of a kernel. Two implementations pass one contract suite: Linux and FakeKernel."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from overlayd.dataplane.items import Link, NamespaceRef, State
from overlayd.dataplane.plan import Op, Plan
from overlayd.model.address import IpAddress, IpNetwork
from overlayd.model.errors import OverlayError
from overlayd.model.ids import InterfaceName, MacAddress


class KernelError(OverlayError):
    """The kernel refused a request; `errno` is its reason (a positive value of the errno module)."""

    code = "kernel"
    status = 500

    def __init__(self, errno: int, detail: str) -> None:
        super().__init__(detail)
        self.errno = errno


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one operation: done, refused by the kernel, or skipped because one it needs failed."""

    op: Op
    error: KernelError | None = None
    skipped: bool = False

    @property
    def done(self) -> bool:
        """Tell whether the operation is in force."""
        return self.error is None and not self.skipped


@dataclass(frozen=True, slots=True)
class Underlay:
    """The device that holds this host's VTEP address, and its MTU in bytes."""

    device: str
    mtu: int


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the host's own namespace has besides what is ours.

    `routes` are where its main table leads, but for default routes; `next_hops` are the gateways of the routes of every
    table, default routes among them; `addresses` are those of its devices, but for link-local and loopback ones.
    """

    routes: frozenset[IpNetwork]
    next_hops: frozenset[IpAddress]
    addresses: frozenset[IpAddress]


class Kernel(Protocol):
    """A kernel with network namespaces. Every method blocks; one thread calls them all but `reap`."""

    def namespaces(self) -> frozenset[NamespaceRef]:
        """Return the network namespaces on this host that are ours by name."""

    def sandbox_id(self, sandbox: str) -> tuple[int, int] | None:
        """Return device and inode of the namespace at this path, or None when the path is no network namespace."""

    def has_device(self, ns: NamespaceRef, name: InterfaceName) -> bool:
        """Tell whether there is a device of this name in a namespace of ours; raise `KernelError`."""

    def observe(self, namespaces: Iterable[NamespaceRef]) -> State:
        """Return what is ours in these namespaces, in canonical form. One that does not exist contributes nothing.

        Raises `KernelError` when a table cannot be read whole (a dump that stays interrupted).
        """

    def missing(self, items: State) -> State:
        """Return those of the items, in our namespaces or in sandboxes, that are not in force as they are given.

        Raises `KernelError` when a table cannot be read whole.
        """

    def link(self, ns: NamespaceRef, name: InterfaceName) -> Link | None:
        """Return a device of one of our namespaces or of a sandbox, whoever made it; None when it is not there.

        Raises `KernelError` when the table cannot be read whole.
        """

    def apply(self, plan: Plan) -> tuple[Outcome, ...]:
        """Execute the operations in order; return one outcome for each.

        A failed operation fails those that need its item, and no other.
        """

    def reap(self, namespaces: Iterable[NamespaceRef]) -> None:
        """Delete what was taken out of use in these namespaces of ours, all that is in one of them at one stroke.

        This takes long, and any thread may do it beside the one that calls the other methods. Raises `KernelError`.
        """

    def fileno(self) -> int:
        """Return a descriptor that is readable while `changed` may have something to say; any thread may ask."""

    def changed(self) -> frozenset[NamespaceRef]:
        """Return where somebody else may have changed what is ours since it was observed.

        `HOST` is among them when the underlay may be another one, or something else in the host's own namespace. What
        `apply` did is no reason; still, a namespace may be named though nothing in it differs.
        """

    def announce(self, ns: NamespaceRef, dev: InterfaceName, mac: MacAddress, addresses: Iterable[IpAddress]) -> None:
        """Tell whoever is behind a device that these addresses are at this MAC now; raise `KernelError`."""

    def underlay(self, address: IpAddress) -> Underlay:
        """Return the device of the host's own namespace that holds the address; raise `NotFound` when none does."""

    def surroundings(self) -> Surroundings:
        """Return what the host's own namespace has besides what is ours; raise `KernelError`."""

    def neighbour_limit(self) -> int | None:
        """Return how many neighbours there may be in all namespaces together; None when permanent ones do not count."""

    def close(self) -> None:
        """Close every socket. Nothing in the kernel changes."""
