"""Finding out whether a transaction was executed whose answer was lost.

Every transaction also writes a *slot*, a key that one transaction at a time uses, and compares that the slot is as it
was. After a lost answer the slot is read, and written at once if the transaction has not come yet: from then on it
cannot be executed any more, even if it is still on its way. So the answer is certain, and nothing is repeated blindly.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from controller.store.etcd import rpc_pb2 as rpc
from overlayd.model.ids import Revision

PREFIX = "/overlayd/commits/"

_FENCE = b"fence"


@dataclass(slots=True)
class Slot:
    """A slot, and the revision of its last write (0: it does not exist)."""

    key: bytes
    revision: Revision


@dataclass(frozen=True, slots=True)
class Claim:
    """A slot as one transaction uses it, known by its nonce."""

    slot: Slot
    nonce: bytes

    def compare(self) -> rpc.Compare:
        """Return the compare of the transaction."""
        return rpc.Compare(
            target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, key=self.slot.key, mod_revision=self.slot.revision
        )

    def put(self) -> rpc.RequestOp:
        """Return the write of the transaction."""
        return rpc.RequestOp(request_put=rpc.PutRequest(key=self.slot.key, value=self.nonce))

    def read(self) -> rpc.RequestOp:
        """Return the look at the slot that tells why a comparison failed."""
        return rpc.RequestOp(request_range=rpc.RangeRequest(key=self.slot.key))

    def question(self) -> rpc.TxnRequest:
        """Return the transaction that finds out whether this one happened, and keeps it from happening later."""
        fence = rpc.RequestOp(request_put=rpc.PutRequest(key=self.slot.key, value=_FENCE + self.nonce))
        return rpc.TxnRequest(compare=[self.compare()], success=[fence], failure=[self.read()])

    def happened(self, answer: rpc.TxnResponse) -> Revision | None:
        """Return the revision in which the transaction happened, by the answer to `question`; None: it never will."""
        if answer.succeeded:
            self.slot.revision = Revision(answer.header.revision)
            return None
        found = _only(answer.responses[0])
        # A slot that is gone was deleted as the transaction compares it, which therefore cannot come any more.
        self.slot.revision = Revision(found.mod_revision if found else 0)
        return self.slot.revision if found and found.value == self.nonce else None

    def is_lost(self, answer: rpc.TxnResponse) -> bool:
        """Tell, by the answer of the transaction whose comparisons failed, whether it was for the slot alone."""
        found = _only(answer.responses[0])
        return (found.mod_revision if found else 0) != self.slot.revision


def _only(answer: rpc.ResponseOp) -> rpc.KeyValue | None:
    return next(iter(answer.response_range.kvs), None)


class Slots:
    """The slots of one process: as many as it ever had transactions under way at once."""

    def __init__(self) -> None:
        self._client = secrets.token_hex(8)
        self._made = 0
        self._free: list[Slot] = []

    @property
    def prefix(self) -> str:
        """What the keys of all its slots begin with."""
        return f"{PREFIX}{self._client}/"

    @contextmanager
    def claimed(self) -> Iterator[Claim]:
        """Claim a slot. When an exception ends the context its state is not known, and it is never used again."""
        slot = self._free.pop() if self._free else self._new()
        yield Claim(slot, secrets.token_bytes(8))
        self._free.append(slot)

    def _new(self) -> Slot:
        self._made += 1
        return Slot(f"{self.prefix}{self._made}".encode(), Revision(0))
