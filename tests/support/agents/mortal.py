"""Agents that die at a step of their work: nothing that they would do later reaches the kernel or the disk."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from overlayd.agent.records.attachment_records import Attachment, AttachmentRecords
from overlayd.dataplane.desired.new_endpoint import NewEndpoint
from overlayd.dataplane.items import Link, NamespaceRef, State
from overlayd.dataplane.plan import Plan
from overlayd.kernel.port import Kernel, Outcome, Surroundings, Underlay, first_not_done
from overlayd.model.address import IpAddress
from overlayd.model.endpoint import EndpointKey
from overlayd.model.ids import InterfaceName, MacAddress


class Died(Exception):
    """The process was killed; whatever cleans up on the way out finds everything out of reach."""


@dataclass(slots=True)
class Life:
    """How many steps are left: an operation of a plan, or a record that is written or removed.

    `at_each` is called at each of them, and at each other call of the kernel, in the thread that makes it.
    """

    steps: int
    is_over: bool = False
    at_each: Callable[[], None] = field(default=lambda: None)

    def check(self) -> None:
        self.at_each()
        if self.is_over:
            raise Died

    def spend(self, steps: int) -> int:
        """Return how many of these steps are done; with fewer than all of them, life is over."""
        self.check()
        done = min(steps, self.steps)
        self.steps -= done
        self.is_over = done < steps
        return done


class MortalKernel:
    """A kernel as an agent sees it that dies in the middle of a plan."""

    def __init__(self, kernel: Kernel, life: Life) -> None:
        self._kernel = kernel
        self._life = life

    def apply(self, plan: Plan) -> tuple[Outcome, ...]:
        done = self._life.spend(len(plan))
        outcomes = self._kernel.apply(Plan(plan.ops[:done]))
        self._life.check()
        return outcomes

    def attach(self, endpoints: Sequence[NewEndpoint]) -> tuple[Outcome | None, ...]:
        return tuple(first_not_done(self.apply(each.plan)) for each in endpoints)

    def namespaces(self) -> frozenset[NamespaceRef]:
        return self._reached().namespaces()

    def sandbox_id(self, sandbox: str) -> tuple[int, int] | None:
        return self._reached().sandbox_id(sandbox)

    def own(self, sandbox_id: tuple[int, int]) -> NamespaceRef | None:
        return self._reached().own(sandbox_id)

    def is_found(self, ns: NamespaceRef) -> bool:
        return self._reached().is_found(ns)

    def is_in_place(self, ns: NamespaceRef) -> bool:
        return self._reached().is_in_place(ns)

    def has_device(self, ns: NamespaceRef, name: InterfaceName) -> bool:
        return self._reached().has_device(ns, name)

    def links(self, namespaces: Iterable[NamespaceRef]) -> frozenset[Link]:
        return self._reached().links(namespaces)

    def observe(self, namespaces: Iterable[NamespaceRef]) -> State:
        return self._reached().observe(namespaces)

    def missing(self, items: State) -> State:
        return self._reached().missing(items)

    def link(self, ns: NamespaceRef, name: InterfaceName) -> Link | None:
        return self._reached().link(ns, name)

    def reap(self, namespaces: Iterable[NamespaceRef]) -> None:
        self._reached().reap(namespaces)

    def leftovers(self) -> frozenset[NamespaceRef]:
        return self._reached().leftovers()

    def prepare(self) -> None:
        self._reached().prepare()

    def shortage(self) -> str | None:
        return self._reached().shortage()

    def fileno(self) -> int:
        return self._reached().fileno()

    def changed(self) -> frozenset[NamespaceRef]:
        return self._reached().changed()

    def revived(self) -> frozenset[tuple[NamespaceRef, InterfaceName]]:
        return self._reached().revived()

    def announce(self, ns: NamespaceRef, dev: InterfaceName, mac: MacAddress, addresses: Iterable[IpAddress]) -> None:
        self._reached().announce(ns, dev, mac, addresses)

    def underlay(self, address: IpAddress, peers: Iterable[IpAddress]) -> Underlay:
        return self._reached().underlay(address, peers)

    def surroundings(self) -> Surroundings:
        return self._reached().surroundings()

    def admit_uplinks(self) -> bool:
        return self._reached().admit_uplinks()

    def close(self) -> None:
        """Leave the kernel open for the next agent."""

    def _reached(self) -> Kernel:
        self._life.check()
        return self._kernel


class MortalRecords(AttachmentRecords):
    """Records of an agent that dies before it writes or removes one."""

    def __init__(self, directory: Path, life: Life) -> None:
        super().__init__(directory)
        self._life = life

    def put(self, attachment: Attachment) -> None:
        self._step()
        super().put(attachment)

    def remove(self, key: EndpointKey) -> None:
        self._step()
        super().remove(key)

    def _step(self) -> None:
        self._life.spend(1)
        self._life.check()
