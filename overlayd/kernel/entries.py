"""Executing operations on what hangs on links: addresses, neighbours, FDB entries and routes."""

import errno
from collections.abc import Mapping, Sequence

from overlayd.dataplane.items import Neighbour, SourceGuard
from overlayd.dataplane.plan import Add, Change, Delete, Op
from overlayd.kernel import decode, encode, source_guard, templates
from overlayd.kernel.encode import Indexes, Verb
from overlayd.kernel.netlink import Netlink
from overlayd.kernel.port import KernelError

_VERBS = {Add: Verb.ADD, Change: Verb.REPLACE, Delete: Verb.DELETE}


def execute(netlink: Netlink, indexes: Indexes, ops: Sequence[Op]) -> Mapping[int, KernelError]:
    """Send operations of one namespace as one batch; return the errors by the position of their operation."""
    errors: dict[int, KernelError] = {}
    positions: Sequence[int] = range(len(ops))
    try:
        messages = templates.entries(((_VERBS[type(op)], op.item) for op in ops), indexes)
    except KernelError:
        messages, positions, errors = _encoded(indexes, ops)
    for number, refusal in netlink.batch(messages).items():
        if not _taken_over(netlink, indexes, ops[positions[number]], refusal):
            errors[positions[number]] = refusal
    return errors


def _encoded(indexes: Indexes, ops: Sequence[Op]) -> tuple[list[bytes], Sequence[int], dict[int, KernelError]]:
    """Return the messages that can be encoded, their positions, and what is wrong with the others."""
    messages, positions, errors = [], [], {}
    for position, op in enumerate(ops):
        try:
            messages.append(encode.entry(_VERBS[type(op)], op.item, indexes))
        except KernelError as error:
            errors[position] = error
        else:
            positions.append(position)
    return messages, positions, errors


def _taken_over(netlink: Netlink, indexes: Indexes, op: Op, error: KernelError) -> bool:
    """Replace what the kernel itself found about a neighbour that is to be ours; tell whether this was it.

    Traffic to a neighbour that is not there makes the kernel enter it, unresolved or even resolved, and the entry may
    outlive the traffic by hours. One that somebody set is permanent, and stays.
    """
    if error.errno != errno.EEXIST or not isinstance(op, Add) or not isinstance(op.item, Neighbour):
        return False
    if decode.is_permanent(netlink.get(encode.neighbour_request(op.item, indexes))):
        return False
    netlink.execute(encode.entry(Verb.REPLACE, op.item, indexes))
    return True


def guard(netlink: Netlink, indexes: Indexes, op: Op, item: SourceGuard) -> None:
    """Put a filter at a device, replace it, or take it away; raise what the kernel answers."""
    index = indexes[item.dev]
    if isinstance(op, Delete):
        netlink.execute(source_guard.removal(index))
        return
    hook, program = source_guard.messages(item, index)
    try:
        netlink.execute(hook)
    except KernelError as error:
        if error.errno != errno.EEXIST or isinstance(op, Add):
            raise
    netlink.execute(program)
