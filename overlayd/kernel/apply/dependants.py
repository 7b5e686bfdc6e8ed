"""Which operations of a plan cannot be executed because one that they need failed."""

from overlayd.dataplane import ownership
from overlayd.dataplane.items import BridgeEntry, Item, Link, Namespace, NamespaceRef, NftTable, Sysctl, Veth, VethPeer
from overlayd.dataplane.plan import Add, Change, Delete, Op, Retire
from overlayd.model.ids import InterfaceName

Device = tuple[NamespaceRef, InterfaceName]


class Failures:
    """The namespaces and devices that are not as the plan wants them.

    Everything in a namespace needs the namespace; an entry needs its device and its bridge; a port its bridge; both
    ends of a veth pair and all that is in the sandbox need the pair; and the host's end is set up only when everything
    in the sandbox is in place, as that is how an interrupted attachment is recognised.
    """

    def __init__(self) -> None:
        self._namespaces: set[NamespaceRef] = set()
        self._devices: set[Device] = set()
        self._incomplete: set[Device] = set()

    def __bool__(self) -> bool:
        """Return whether anything failed so far that something else may need."""
        return bool(self._namespaces or self._devices or self._incomplete)

    def record(self, op: Op) -> None:
        """Record that an operation was refused or skipped. A failed deletion does not forbid any creation."""
        item = op.item
        match op:
            case Delete() | Retire():
                return
            case Add(item=Link(kind=Veth(peer=VethPeer() as peer))):
                self._devices |= {(peer.ns, peer.name), (peer.ns, ownership.LOOPBACK)}
            case _:
                pass
        match item:
            case Namespace():
                self._namespaces.add(item.ns)
            case Link():
                self._devices.add((item.ns, item.name))
            case _:
                self._incomplete.update(_devices(item))

    def record_success(self, op: Op) -> None:
        """Record that a veth pair was made: it does not inherit the failure of another pair of the sandbox."""
        match op:
            case Add(item=Link(kind=Veth(peer=VethPeer() as peer))) if self._devices:
                self._devices.discard((peer.ns, ownership.LOOPBACK))
            case _:
                pass

    def forbid(self, op: Op) -> bool:
        """Return whether an operation needs something that failed."""
        if isinstance(op, Delete | Retire) or not self:
            return False
        if op.item.ns in self._namespaces or not self._devices.isdisjoint(_needed(op)):
            return True
        match op:
            case Change(item=Link(kind=Veth(peer=VethPeer() as peer))):
                behind = {(peer.ns, peer.name), (peer.ns, ownership.LOOPBACK)}
                return not behind.isdisjoint(self._devices | self._incomplete)
            case _:
                return False


def _needed(op: Op) -> set[Device]:
    match op.item:
        case Link(port=port) as link:
            bridge = {(link.ns, port.master)} if port else set()
            return bridge | {(link.ns, link.name)}
        case item:
            return _devices(item)


def _devices(item: Item) -> set[Device]:
    match item:
        case BridgeEntry(ns=ns, dev=dev, bridge=bridge):
            return {(ns, dev), (ns, bridge)}
        case Namespace() | Link() | NftTable() | Sysctl():
            return set()
        case _:
            return {(item.ns, item.dev)} if item.dev else set()
