"""The entry of the history for a change of the intent: actor, time, and each record before and after."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count

from controller.journal.actor import Actor
from controller.state import keys
from controller.store.port import DeleteKey, PutKey
from overlayd.wire import records
from overlayd.wire.fields import Json

Form = dict[str, Json]
"""A record, or what else the history tells of, as JSON."""


@dataclass(frozen=True, slots=True)
class Note:
    """A change of something that is no record, as the history shows it; None where it did not or does not exist."""

    kind: str
    before: Json
    after: Json


class Recorder:
    """Makes the history entries of one controller. Their keys sort by time; their revision is the transaction's."""

    def __init__(self, controller: str) -> None:
        self._controller = controller
        self._numbers = count()

    def entry(
        self,
        at: float,
        by: Actor,
        before: Callable[[str], Form | None],
        ops: Iterable[PutKey | DeleteKey],
        noted: Iterable[Note] = (),
    ) -> PutKey:
        """Return the write of an entry about these operations; `before` returns the earlier value of a key as JSON.

        `at` is in seconds since 1970 (UTC). `noted` is what else changes.
        """
        changes = [*_changes(before, ops), *({"kind": n.kind, "before": n.before, "after": n.after} for n in noted)]
        at = round(at, 6)  # as people are shown it, and ask by it
        value: dict[str, Json] = {"at": at, "actor": {"name": by.name, "role": by.role}, "changes": [*changes]}
        key = f"{keys.history_from(at)}-{self._controller}-{next(self._numbers):08}"
        return PutKey(key, keys.encode(value))


def _changes(find: Callable[[str], Form | None], ops: Iterable[PutKey | DeleteKey]) -> Iterator[dict[str, Json]]:
    for op in ops:
        if not keys.is_record(op.key):
            continue
        before = find(op.key)
        after = json.loads(op.value) if isinstance(op, PutKey) else None
        if before is not None or after is not None:
            yield {"kind": _kind(op.key), "before": before, "after": _without_version(after)}


def _kind(key: str) -> str:
    return records.name_of(keys.kind_of(key))


def _without_version(value: dict[str, Json] | None) -> Json:
    return None if value is None else {name: each for name, each in value.items() if name != "v"}
