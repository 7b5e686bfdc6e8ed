"""A part of a transaction: what a rule adds to the draft of a service."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from controller.store.port import Compare, DeleteKey, PutKey, Unmodified


@dataclass(frozen=True, slots=True)
class TransactionPart:
    """What must hold, and what is written then; nothing of either by default."""

    compares: tuple[Compare | Unmodified, ...] = ()
    ops: tuple[PutKey | DeleteKey, ...] = ()

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """Return several parts as one."""
        found = [*parts]
        compares = tuple(compare for part in found for compare in part.compares)
        return cls(compares, tuple(op for part in found for op in part.ops))

    def __add__(self, other: Self) -> Self:
        """Return both parts as one."""
        return self.joined((self, other))
