"""Making several endpoints at once: what goes to one namespace goes together, and each sandbox is entered once.

The messages, and their order, are those of the executor (executor.py), which opens a sandbox again for each step of a
plan, because it knows no other plan. Items of kinds that are not known here are left to the executor, and so is a pair
of devices that the kernel does not create: the executor tries again without the chosen indexes.
"""

import os
import socket
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field

from overlayd.dataplane.desired.new_endpoint import NewEndpoint
from overlayd.dataplane.items import HOST, DeviceSysctls, Link, NamespaceRef, SourceGuard, Veth, VethPeer
from overlayd.dataplane.plan import Add, Op, Plan
from overlayd.kernel.apply import carrier, entries
from overlayd.kernel.apply.executor import Execution, is_setting
from overlayd.kernel.apply.indexes import Indexes
from overlayd.kernel.apply.links import port_settings
from overlayd.kernel.apply.sockets import Sockets
from overlayd.kernel.netlink import link_messages
from overlayd.kernel.netlink.transport import Netlink, open_brief_socket
from overlayd.kernel.nft import Tables
from overlayd.kernel.port import KernelError, Outcome, first_not_done
from overlayd.kernel.spaces import sysctls
from overlayd.kernel.spaces.namespaces import open_namespace, touring

AT_ONCE = 16
"""Endpoints that are made at once: each needs two descriptors while it is made."""


@dataclass(eq=False, slots=True)
class _Making:
    """An endpoint: its plan, divided by where the operations are executed, and what became of it so far."""

    ops: Sequence[Op]
    pair: Op
    link: Link
    peer: VethPeer
    settings: list[tuple[Op, DeviceSysctls]] = field(default_factory=list)
    inside: list[Op] = field(default_factory=list)
    outside: list[Op] = field(default_factory=list)
    is_begun: bool = False
    failed: Outcome | None = None

    def refused(self, op: Op, error: KernelError) -> None:
        self.failed = self.failed or Outcome(op, error)

    @property
    def done(self) -> Sequence[Op]:
        return (self.pair,) if self.failed else self.ops


class NewEndpoints:
    """Makes endpoints. `outcomes` are what was done, in the terms of plans."""

    def __init__(self, sockets: Sockets, tables: Tables) -> None:
        self.outcomes: list[Outcome] = []
        self._sockets = sockets
        self._tables = tables
        self._indexes = Indexes(sockets)

    def make(self, endpoints: Sequence[NewEndpoint]) -> tuple[Outcome | None, ...]:
        """Make endpoints; return for each the first operation that was not done.

        One fails alone whose namespaces the kernel does not report.
        """
        plans = [each.plan.ops for each in endpoints]
        makings = [_divided(ops) for ops in plans]
        networks: dict[NamespaceRef, list[_Making]] = defaultdict(list)
        for making in filter(None, makings):
            networks[making.link.ns].append(making)
        for ns, part in networks.items():
            for start in range(0, len(part), AT_ONCE):
                self._make(ns, part[start : start + AT_ONCE])
        return tuple(self._result(*each) for each in zip(plans, makings, strict=True))

    def _result(self, ops: Sequence[Op], making: _Making | None) -> Outcome | None:
        if making and making.is_begun:
            self.outcomes += map(Outcome, making.done)
            return making.failed
        try:
            outcomes = Execution(self._sockets, self._tables).run(Plan(tuple(ops)))
        except KernelError as error:
            return Outcome(ops[0], error)
        self.outcomes += outcomes
        return first_not_done(outcomes)

    def _make(self, ns: NamespaceRef, part: Sequence[_Making]) -> None:
        """Make endpoints of one network, as far as their devices can be created."""
        try:
            self._sockets.put_name_back(ns)
            netlink = self._sockets.into(ns)
        except KernelError:
            return  # the executor says what is wrong
        with ExitStack() as opened:
            entrances = list[tuple[_Making, int]]()
            for making in part:
                with suppress(KernelError):
                    fd = open_namespace(making.peer.ns)
                    opened.callback(os.close, fd)
                    entrances.append((making, fd))
            begun = self._with_pairs(netlink, entrances)
            sandboxes = _entered(begun, opened)
            for making, sandbox in sandboxes:
                self._furnish(making, Netlink(sandbox))
            self._connect(netlink, [making for making, _ in sandboxes if not making.failed])
            for making, sandbox in sandboxes:
                carrier.settle_over(sandbox, making.peer.name)

    def _with_pairs(self, netlink: Netlink, entrances: Sequence[tuple[_Making, int]]) -> list[tuple[_Making, int]]:
        """Create pairs of devices; return those that the kernel has created."""
        indexes = [link_messages.chosen_indexes(making.link.name) for making, _ in entrances]
        refusals = netlink.batch(
            [
                link_messages.created_pair(making.link, making.peer, fd, up=making.link.up, indexes=chosen)
                for (making, fd), chosen in zip(entrances, indexes, strict=True)
            ]
        )
        found = []
        for number, (making, fd) in enumerate(entrances):
            if number not in refusals:
                near, far = indexes[number]
                self._indexes[making.link.ns][making.link.name] = near
                self._indexes[making.peer.ns][making.peer.name] = far
                making.is_begun = True
                found.append((making, fd))
        return found

    def _furnish(self, making: _Making, sandbox: Netlink) -> None:
        """Make what is in a sandbox."""
        errors = entries.execute(sandbox, self._indexes[making.peer.ns], making.inside)
        for position in sorted(errors):
            making.refused(making.inside[position], errors[position])

    def _connect(self, netlink: Netlink, makings: Sequence[_Making]) -> None:
        """Make the items of the network's namespace that are not devices, and set the devices up."""
        steps = list[tuple[_Making, Op]]()
        messages = list[bytes]()
        for making in makings:
            for op in (making.pair, *making.outside):
                try:
                    of_op = self._messages(op)
                except KernelError as error:
                    making.refused(op, error)
                    break
                messages += of_op
                steps += [(making, op)] * len(of_op)
        for number, refusal in netlink.batch(messages).items():
            making, op = steps[number]
            if still := entries.still_refused(netlink, self._indexes[making.link.ns], op, refusal):
                making.refused(op, still)

    def _messages(self, op: Op) -> list[bytes]:
        indexes = self._indexes[op.item.ns]
        match op:
            case Add(item=Link() as link):
                return port_settings(link, indexes)
            case Add(item=SourceGuard() as guard):
                return entries.guard_made(indexes[guard.dev], guard)
            case _:
                return entries.messages(indexes, [op])


def _entered(begun: Sequence[tuple[_Making, int]], opened: ExitStack) -> list[tuple[_Making, socket.socket]]:
    """Enter sandboxes once, for what is no message; return sockets of theirs, which `opened` closes."""
    found = []
    try:
        with touring() as enter:
            for making, fd in begun:
                op = making.pair
                try:
                    enter(fd)
                    for op, item in making.settings:  # noqa: B007 - an error is that of the last one
                        sysctls.enforce_device_here(item)
                    found.append((making, opened.enter_context(closing(open_brief_socket()))))
                except KernelError as error:
                    making.refused(op, error)
    except KernelError as error:
        for making, _ in begun:
            making.refused(making.pair, error)
    return found


def _divided(ops: Sequence[Op]) -> _Making | None:
    """Divide a plan; return None when it is not one of an endpoint as this makes them."""
    match ops[0] if ops else None:
        case Add(item=Link(kind=Veth(peer=VethPeer() as peer)) as link) as pair if peer.ns != HOST:
            making = _Making(ops, pair, link, peer)
        case _:
            return None
    for op in ops[1:]:
        item = op.item
        is_message = type(item) in entries.KINDS or is_setting(op)
        if item.ns == peer.ns and is_message:
            making.inside.append(op)
        elif item.ns == peer.ns and isinstance(op, Add) and isinstance(item, DeviceSysctls):
            making.settings.append((op, item))
        elif item.ns == link.ns and (is_message or (isinstance(op, Add) and isinstance(item, SourceGuard))):
            making.outside.append(op)
        else:
            return None
    return making
