"""What the rest of the agent needs of a kernel. Two implementations pass one contract suite: Linux and FakeKernel."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EAGAIN, EIO, EMFILE, ENFILE, ENOBUFS, ENOENT, ENOMEM
from typing import Protocol, Self

from overlayd.dataplane.items import Link, NamespaceRef, State
from overlayd.dataplane.plan import Op, Plan
from overlayd.model.address import IpAddress, IpNetwork
from overlayd.model.errors import OverlayError
from overlayd.model.ids import InterfaceName, MacAddress

_SHORTAGES = frozenset({EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM})
"""What the kernel answers while it, or this process, has too little of something (errno(3))."""


class KernelError(OverlayError):
    """The kernel refused a request; `errno` is its reason (a positive value of the errno module).

    It says nothing about what is there: only `NoNamespace`, and a reason that the kernel has for one kind of object
    alone (ENODEV for a device), mean that an object is absent.
    """

    code = "kernel"
    status = 500

    def __init__(self, errno: int, detail: str) -> None:
        super().__init__(detail)
        self.errno = errno

    @classmethod
    def of(cls, error: OSError, what: str) -> Self:
        """Return the error of what was being done when the library raised `error`."""
        return cls(error.errno or EIO, f"{what}: {error.strerror or error}")

    @property
    def is_shortage(self) -> bool:
        """Tell whether the same request may succeed once descriptors or memory are free again."""
        return self.errno in _SHORTAGES


class NoNamespace(KernelError):
    """The kernel says that a path leads to no network namespace: to nothing at all, or to a file of another kind."""

    def __init__(self, detail: str) -> None:
        super().__init__(ENOENT, detail)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise `KernelError` for an `OSError` of the block; `what` names what the block does, and with which object."""
    try:
        yield
    except OSError as error:
        raise KernelError.of(error, what) from error


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one operation: done, refused by the kernel, or skipped because one that it needs failed."""

    op: Op
    error: KernelError | None = None
    skipped: bool = False

    @property
    def done(self) -> bool:
        """Tell whether the operation was executed."""
        return self.error is None and not self.skipped


@dataclass(frozen=True, slots=True)
class Underlay:
    """The device that holds this host's VTEP address, and its MTU in bytes."""

    device: str
    mtu: int


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The routes, gateways, addresses and default devices of the host's own namespace that are not ours.

    `routes` are where its main table leads, but for default routes; `next_hops` are the gateways of the routes of every
    table, default routes among them; `addresses` are those of its devices, but for link-local and loopback ones;
    `ways_out` are the devices of default routes. After that the monitor reports when one of them stops forwarding.
    """

    routes: frozenset[IpNetwork]
    next_hops: frozenset[IpAddress]
    addresses: frozenset[IpAddress]
    ways_out: frozenset[InterfaceName]


class Kernel(Protocol):
    """A kernel with network namespaces. Every method blocks.

    One thread at a time calls them. Any thread may call `reap`, `prepare`, `shortage` and `fileno` beside it.
    """

    def namespaces(self) -> frozenset[NamespaceRef]:
        """Return the network namespaces on this host that are ours by name; raise `KernelError`."""

    def sandbox_id(self, sandbox: str) -> tuple[int, int] | None:
        """Return device and inode of the namespace at this path, or None when the path is no network namespace.

        Raises `KernelError` when the kernel does not say which of both is so.
        """

    def is_in_place(self, ns: NamespaceRef) -> bool:
        """Tell whether a network namespace of ours is there, and its name leads to it; raise `KernelError`."""

    def has_device(self, ns: NamespaceRef, name: InterfaceName) -> bool:
        """Tell whether there is a device of this name in a namespace of ours; raise `KernelError`."""

    def links(self, namespaces: Iterable[NamespaceRef]) -> frozenset[Link]:
        """Return our devices in these namespaces of ours; one that does not exist contributes none.

        Raises `KernelError` when a table cannot be read whole.
        """

    def observe(self, namespaces: Iterable[NamespaceRef]) -> State:
        """Return what is ours in these namespaces, in canonical form. One that does not exist contributes nothing.

        Raises `KernelError` when a table cannot be read whole (a dump that stays interrupted).
        """

    def missing(self, items: State) -> State:
        """Return those of the items, in our namespaces or in sandboxes, that are not in force as they are given.

        Raises `KernelError` when a table cannot be read whole.
        """

    def link(self, ns: NamespaceRef, name: InterfaceName) -> Link | None:
        """Return a device of one of our namespaces or of a sandbox, ours or not; None when it is not there.

        Raises `KernelError` when the table cannot be read whole.
        """

    def apply(self, plan: Plan) -> tuple[Outcome, ...]:
        """Execute the operations in order; return one outcome for each.

        A failed operation fails those that need its item, and no other. Raises `KernelError`, and has done nothing,
        when the kernel does not say which of our namespaces are still those that they were.
        """

    def reap(self, namespaces: Iterable[NamespaceRef]) -> None:
        """Delete what was taken out of use in these namespaces of ours, all that is in one of them at one stroke.

        This takes long, and any thread may do it beside the one that calls the other methods. Raises `KernelError`.
        """

    def leftovers(self) -> frozenset[NamespaceRef]:
        """Return those of our namespaces that hold what was taken out of use and not deleted; raise `KernelError`."""

    def prepare(self) -> None:
        """Load and encode what the first attachment would have to wait for: 50 ms of processor time, once.

        It changes nothing in the kernel, and any thread may do it beside the other methods. Raises `KernelError`.
        """

    def shortage(self) -> str | None:
        """Return what this process has too little of for anything new, in one sentence; None when there is room."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while `changed` may have something to say; any thread may ask."""

    def changed(self) -> frozenset[NamespaceRef]:
        """Return where others may have changed what is ours since it was observed.

        `HOST` is among them when the underlay may be another one, or something else in the host's own namespace. What
        `apply` did is no reason; still, a namespace may be named though nothing in it differs. Raises `KernelError`.
        """

    def revived(self) -> frozenset[tuple[NamespaceRef, InterfaceName]]:
        """Return the host's ends of veth pairs whose other ends were down and came up again since this was asked.

        It is known as soon as `changed` or `observe` has returned. What hung on the other end went with that.
        """

    def announce(self, ns: NamespaceRef, dev: InterfaceName, mac: MacAddress, addresses: Iterable[IpAddress]) -> None:
        """Announce behind a device that these addresses are at this MAC now; raise `KernelError`."""

    def underlay(self, address: IpAddress, peers: Iterable[IpAddress]) -> Underlay:
        """Return the device of the host's own namespace that holds the address; raise `NotFound` when none does.

        Where that device is a loopback, its MTU is that of the ways to the peers, or of the default routes.
        """

    def surroundings(self) -> Surroundings:
        """Return what the host's own namespace has besides what is ours; raise `KernelError`."""

    def close(self) -> None:
        """Close every socket. Nothing in the kernel changes."""
