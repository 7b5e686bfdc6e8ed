"""The kernel as the rest of the agent uses it. Two implementations pass one contract suite: Linux and FakeKernel."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EAGAIN, EIO, EMFILE, ENFILE, ENOBUFS, ENOENT, ENOMEM
from typing import NamedTuple, Protocol, Self

from overlayd.dataplane.desired.new_endpoint import NewEndpoint
from overlayd.dataplane.items import Link, NamespaceRef, State
from overlayd.dataplane.plan import Op, Plan
from overlayd.model.address import IpAddress, IpNetwork
from overlayd.model.errors import OverlayError
from overlayd.model.ids import InterfaceName, MacAddress

_SHORTAGES = frozenset({EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM})
"""What the kernel answers while it, or this process, has too little of something (errno(3))."""


class KernelError(OverlayError):
    """The kernel refused a request; `errno` is its reason (a positive value of the errno module).

    It does not mean that an object is absent: only `NoNamespace` does, and an errno that the kernel has for the absence
    of one kind of object (ENODEV for a device).
    """

    code = "kernel"
    status = 500

    def __init__(self, errno: int, detail: str) -> None:
        super().__init__(detail)
        self.errno = errno

    @classmethod
    def of(cls, error: OSError, what: str) -> Self:
        """Return the error for an action during which the library raised `error`."""
        return cls(error.errno or EIO, f"{what}: {error.strerror or error}")

    @property
    def is_shortage(self) -> bool:
        """Return whether the same request may succeed once descriptors or memory are free again."""
        return self.errno in _SHORTAGES


class NoNamespace(KernelError):
    """The kernel reports that a path leads to no network namespace: there is no file, or one of another kind."""

    def __init__(self, detail: str) -> None:
        super().__init__(ENOENT, detail)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise `KernelError` for an `OSError` of the block; `what` names the action and its object."""
    try:
        yield
    except OSError as error:
        raise KernelError.of(error, what) from error


class Outcome(NamedTuple):
    """Result of one operation: done, refused by the kernel, or skipped because one that it needs failed."""

    op: Op
    error: KernelError | None = None
    skipped: bool = False

    @property
    def done(self) -> bool:
        """Return whether the operation was executed."""
        return self.error is None and not self.skipped


def first_not_done(outcomes: Iterable[Outcome]) -> Outcome | None:
    """Return the first of these that was refused or skipped, None when all were done."""
    return next((outcome for outcome in outcomes if not outcome.done), None)


@dataclass(frozen=True, slots=True)
class Underlay:
    """The device that holds this host's VTEP address, and its MTU in bytes."""

    device: str
    mtu: int


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The routes, gateways, addresses and default devices of the host's own namespace that are not ours.

    `routes` are the destinations of its main table, except for default routes; `next_hops` are the gateways of the
    routes of every table, default routes among them; `addresses` are those of its devices, except for link-local and
    loopback ones; `ways_out` are the devices of default routes. Once these have been
    returned, `changed` reports `HOST` when one of the devices of default routes stops forwarding.
    """

    routes: frozenset[IpNetwork]
    next_hops: frozenset[IpAddress]
    addresses: frozenset[IpAddress]
    ways_out: frozenset[InterfaceName]


class Kernel(Protocol):
    """A kernel with network namespaces. Every method blocks.

    One thread at a time calls them. Any thread of the host's own namespace may call `sandbox_id`, `own`, `is_found`,
    `reap`, `prepare`, `shortage` and `fileno` at the same time.
    """

    def namespaces(self) -> frozenset[NamespaceRef]:
        """Return the network namespaces on this host that are ours by name; raise `KernelError`."""

    def sandbox_id(self, sandbox: str) -> tuple[int, int] | None:
        """Return device and inode of the namespace at this path, or None when the path is no network namespace.

        Raises `KernelError` when the kernel does not report which of the two it is.
        """

    def own(self, sandbox_id: tuple[int, int]) -> NamespaceRef | None:
        """Return the name of the host's own namespace or of a network's namespace, None for any other namespace.

        It knows those that `namespaces` has returned, and those made since. `sandbox_id` is the device and inode of the
        namespace.
        """

    def is_found(self, ns: NamespaceRef) -> bool:
        """Return whether the name of a network namespace of ours leads to it; raise `KernelError`."""

    def is_in_place(self, ns: NamespaceRef) -> bool:
        """Do as `is_found`, after putting back a name that was lost."""

    def has_device(self, ns: NamespaceRef, name: InterfaceName) -> bool:
        """Return whether a namespace of ours has a device of this name; raise `KernelError`."""

    def links(self, namespaces: Iterable[NamespaceRef]) -> frozenset[Link]:
        """Return our devices in these namespaces of ours; one that does not exist contributes none.

        Raises `KernelError` when a table cannot be read whole.
        """

    def observe(self, namespaces: Iterable[NamespaceRef]) -> State:
        """Return our items in these namespaces, in canonical form; a missing namespace contributes none.

        Raises `KernelError` when a table cannot be read whole (a dump that stays interrupted).
        """

    def missing(self, items: State) -> State:
        """Return those of the items, in our namespaces or in sandboxes, that are not in force in exactly this form.

        Raises `KernelError` when a table cannot be read whole.
        """

    def link(self, ns: NamespaceRef, name: InterfaceName) -> Link | None:
        """Return a device of one of our namespaces or of a sandbox, ours or not; None when it does not exist.

        Raises `KernelError` when the table cannot be read whole.
        """

    def apply(self, plan: Plan) -> tuple[Outcome, ...]:
        """Execute the operations in order; return one outcome for each.

        A failed operation fails those that need its item, and no other. Raises `KernelError`, and has done nothing,
        when the kernel does not report whether our namespaces are still the same.
        """

    def attach(self, endpoints: Sequence[NewEndpoint]) -> tuple[Outcome | None, ...]:
        """Make endpoints of which nothing is there; return for each the first operation that was not done, if any.

        What cannot be made fails no other endpoint; what there is of it then is for the caller to remove. Where `apply`
        would raise `KernelError`, that is the error of the first operation.
        """

    def reap(self, namespaces: Iterable[NamespaceRef]) -> None:
        """Delete the devices that were taken out of use in these namespaces of ours, in one group for each.

        This takes long; any thread may do it while another one calls the other methods. Raises `KernelError`.
        """

    def leftovers(self) -> frozenset[NamespaceRef]:
        """Return our namespaces with devices that were taken out of use and not deleted; raise `KernelError`."""

    def prepare(self) -> None:
        """Load and encode in advance what the first attachment needs: 50 ms of processor time, once.

        It changes nothing in the kernel; any thread may do it while another one calls the other methods. Raises
        `KernelError`.
        """

    def shortage(self) -> str | None:
        """Return in one sentence which resource is too short for new attachments; None when none is."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while `changed` may have changes to return; any thread may call it."""

    def changed(self) -> frozenset[NamespaceRef]:
        """Return the namespaces in which others may have changed what is ours since it was observed.

        `HOST` is among them when the underlay, or another fact of the host's own namespace, may have changed. Changes
        of `apply` do not count. A namespace may be named although nothing in it differs. Raises `KernelError`.
        """

    def revived(self) -> frozenset[tuple[NamespaceRef, InterfaceName]]:
        """Return the host's ends of veth pairs whose other ends were down and came up since the last call.

        The result is complete once `changed` or `observe` has returned. The kernel has removed what was on the other
        end.
        """

    def announce(self, ns: NamespaceRef, dev: InterfaceName, mac: MacAddress, addresses: Iterable[IpAddress]) -> None:
        """Announce through a device that these addresses now have this MAC; raise `KernelError`."""

    def underlay(self, address: IpAddress, peers: Iterable[IpAddress]) -> Underlay:
        """Return the device of the host's own namespace that holds the address; raise `NotFound` when none does.

        Where that device is a loopback, its MTU is that of the routes to the peers, or of the default routes.
        """

    def surroundings(self) -> Surroundings:
        """Return the foreign parts of the host's own namespace that matter here; raise `KernelError`."""

    def admit_uplinks(self) -> bool:
        """Let uplinks pass where Docker drops what the host forwards; return whether that took a rule.

        Any thread may do it while another one calls the other methods. Raises `KernelError`.
        """

    def close(self) -> None:
        """Close every socket. Nothing in the kernel changes."""
