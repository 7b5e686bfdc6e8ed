"""Between the store port and the messages of etcd."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from controller.store.etcd import rpc_pb2 as rpc
from controller.store.port import Compare, DeleteKey, Event, KeyValue, LeaseId, PutKey, RevisionEvents, Unmodified
from overlayd.model.ids import Revision


def first_below(prefix: str) -> bytes:
    """Return the first key after a prefix that can begin with it."""
    return prefix.encode() + b"\0"


def end_of(prefix: str) -> bytes:
    """Return the first key after all those that start with the prefix."""
    encoded = prefix.encode()
    return encoded[:-1] + bytes([encoded[-1] + 1])


def compare(wanted: Compare | Unmodified) -> rpc.Compare:
    """Return the comparison that etcd makes."""
    if isinstance(wanted, Compare):
        return rpc.Compare(
            target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, key=wanted.key.encode(), mod_revision=wanted.mod_revision
        )
    return rpc.Compare(
        target=rpc.Compare.MOD,
        result=rpc.Compare.LESS,
        key=first_below(wanted.prefix),
        range_end=end_of(wanted.prefix),
        mod_revision=wanted.since + 1,
    )


def operation(op: PutKey | DeleteKey) -> rpc.RequestOp:
    """Return the operation that etcd executes."""
    if isinstance(op, PutKey):
        return rpc.RequestOp(request_put=rpc.PutRequest(key=op.key.encode(), value=op.value, lease=op.lease or 0))
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=op.key.encode()))


def key_value(found: rpc.KeyValue) -> KeyValue:
    """Return a key as the port has it."""
    return KeyValue(
        found.key.decode(),
        found.value,
        Revision(found.create_revision),
        Revision(found.mod_revision),
        LeaseId(found.lease) if found.lease else None,
    )


def changes(events: Iterable[rpc.Event]) -> Iterator[RevisionEvents]:
    """Yield the revisions of a watch response, which holds each of its revisions whole."""
    for revision, group in groupby(events, key=lambda event: event.kv.mod_revision):
        found = sorted((_event(event) for event in group), key=lambda event: event.key.encode())
        yield RevisionEvents(Revision(revision), tuple(found))


def _event(event: rpc.Event) -> Event:
    return Event(
        event.kv.key.decode(),
        None if event.type == rpc.Event.DELETE else event.kv.value,
        event.prev_kv.value if event.HasField("prev_kv") else None,
    )
