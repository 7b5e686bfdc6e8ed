"""A plan: the ordered, typed operations that lead from the observed to the desired state."""

from collections.abc import Iterator
from dataclasses import dataclass

from overlayd.dataplane import render
from overlayd.dataplane.items import Item, Link


@dataclass(frozen=True, slots=True)
class Add:
    """Create an item that does not exist; fails with EEXIST if it does."""

    item: Item

    def __str__(self) -> str:
        """Show the operation as an administrator would type it."""
        return render.added(self.item)


@dataclass(frozen=True, slots=True)
class Change:
    """Change an existing item from `before` to `item`; both have one key. Repeating it is harmless."""

    item: Item
    before: Item

    def __str__(self) -> str:
        """Show the operation as an administrator would type it."""
        return render.changed(self.item, self.before)


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove an item; one that is already gone is no failure."""

    item: Item

    def __str__(self) -> str:
        """Show the operation as an administrator would type it."""
        return render.deleted(self.item)


@dataclass(frozen=True, slots=True)
class Retire:
    """Take a veth pair out of use at once: both ends are down and renamed, and no route leads to them.

    Deleting a pair waits for an RCU grace period; many pairs are deleted together, later. One that is already gone is
    no failure.
    """

    item: Link

    def __str__(self) -> str:
        """Show the operation as an administrator would type it."""
        return render.retired(self.item)


Op = Add | Change | Delete | Retire


@dataclass(frozen=True, slots=True)
class Plan:
    """Operations in the order in which they are to be executed. False when there is nothing to do."""

    ops: tuple[Op, ...] = ()

    def __bool__(self) -> bool:
        """Return whether there are operations."""
        return bool(self.ops)

    def __len__(self) -> int:
        """Return the number of operations."""
        return len(self.ops)

    def __iter__(self) -> Iterator[Op]:
        """Iterate over the operations in order."""
        return iter(self.ops)

    def __str__(self) -> str:
        """Show one operation a line."""
        return "\n".join(str(op) for op in self.ops)
