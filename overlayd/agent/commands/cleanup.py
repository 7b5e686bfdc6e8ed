"""Taking everything of ours away from this host."""

from collections.abc import Iterable, Iterator

from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.records.recovery import described
from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import HOST, Link
from overlayd.dataplane.plan import Plan
from overlayd.kernel.port import Kernel
from overlayd.model.errors import InUse


def check_unused(records: AttachmentRecords, unexplained: Iterable[Link]) -> None:
    """Raise `InUse` when containers would lose their network, with or without a record."""
    known = [f"{one.container_id} of {one.network}" for one in records.endpoints]
    if names := ", ".join(sorted([*known, *map(described, unexplained)])):
        raise InUse(f"containers are attached, and would lose their network: {names}")


def plan_cleanup(kernel: Kernel) -> Plan:
    """Return what removes all that is ours: the namespaces with all that is in them, and what the host's own has."""
    return diff(frozenset(), kernel.observe(kernel.namespaces() | {HOST}))


def clean_up(kernel: Kernel, plan: Plan, records: AttachmentRecords) -> Iterator[str]:
    """Remove all that is ours, and forget the attachments; yield what could not be removed, one line each."""
    for outcome in kernel.apply(plan):
        if not outcome.done:
            yield f"{outcome.op}: {outcome.error or 'not tried'}"
    for key in list(records.attachments):
        records.remove(key)
