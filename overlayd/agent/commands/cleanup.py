"""`overlayd cleanup`: removes everything of ours from this host's kernel."""

from collections.abc import Iterable, Iterator

from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.records.recovery import described
from overlayd.dataplane.diff import diff
from overlayd.dataplane.items import HOST, Link
from overlayd.dataplane.plan import Plan
from overlayd.kernel.docker_filter import withdraw
from overlayd.kernel.port import Kernel, KernelError
from overlayd.model.errors import InUse


def check_unused(records: AttachmentRecords, unexplained: Iterable[Link]) -> None:
    """Raise `InUse` when containers would lose their network, with or without a record."""
    known = [f"{one.container_id} of {one.network}" for one in records.endpoints]
    if names := ", ".join(sorted([*known, *map(described, unexplained)])):
        raise InUse(f"containers are attached, and would lose their network: {names}")


def plan_cleanup(kernel: Kernel) -> Plan:
    """Return the plan that removes everything of ours: the namespaces, and our items in the host's own one."""
    return diff(frozenset(), kernel.observe(kernel.namespaces() | {HOST}))


def clean_up(kernel: Kernel, plan: Plan, records: AttachmentRecords) -> Iterator[str]:
    """Remove everything of ours and the records of attachments; yield a line for each item that stayed."""
    for outcome in kernel.apply(plan):
        if not outcome.done:
            yield f"{outcome.op}: {outcome.error or 'not tried'}"
    try:
        withdraw()
    except KernelError as error:
        yield str(error)
    for key in list(records.attachments):
        records.remove(key)
