"""Tables of records that share what a change leaves alone."""

from collections.abc import Collection, ItemsView, Iterable, Iterator, Mapping, ValuesView
from itertools import chain
from types import MappingProxyType
from typing import TypeVar, cast

from overlayd.model.ids import NetworkName

Key = TypeVar("Key")
InNetwork = TypeVar("InNetwork", bound=tuple[NetworkName, *tuple[object, ...]])
"""The key of a record that belongs to a network, whose name comes first in it."""

Value = TypeVar("Value")


def changed(
    table: Mapping[Key, Value], puts: Iterable[tuple[Key, Value]], deletes: Iterable[Key]
) -> Mapping[Key, Value]:
    """Return a table after these changes, the deletions first; the same one when it has all of them already.

    A record that equals the one that it replaces is not put: what reads the table may compare by identity.
    """
    after: dict[Key, Value] | None = None
    for key in deletes:
        if key in (table if after is None else after):
            after = _copy(table) if after is None else after
            del after[key]
    for key, value in puts:
        if (table if after is None else after).get(key) != value:
            after = _copy(table) if after is None else after
            after[key] = value
    return table if after is None else MappingProxyType(after)


def _copy(table: Mapping[Key, Value]) -> dict[Key, Value]:
    # Copying a dictionary as such does not hash its keys once more, as reading it through its proxy would.
    return table.copy() if isinstance(table, MappingProxyType | dict) else dict(table)


class ByNetwork(Mapping[InNetwork, Value]):
    """Records by their keys, in one table for each network. A value: `changed` returns another one.

    That one shares the tables of all networks that the change leaves alone, so a change of one network costs a copy of
    that network's table. A table that is the same object has the same records.
    """

    __slots__ = ("tables",)

    def __init__(self, tables: Mapping[NetworkName, Mapping[InNetwork, Value]] = MappingProxyType({})) -> None:
        self.tables = tables

    def of(self, network: NetworkName) -> Mapping[InNetwork, Value]:
        """Return the records of one network by their keys."""
        return self.tables.get(network) or cast("Mapping[InNetwork, Value]", _NONE)

    def changed(
        self, puts: Iterable[tuple[InNetwork, Value]], deletes: Iterable[InNetwork], gone: Collection[NetworkName]
    ) -> "ByNetwork[InNetwork, Value]":
        """Return the tables after these changes: networks that are gone first, then deletions, then puts."""
        tables = {name: table for name, table in self.tables.items() if name not in gone}
        added: dict[NetworkName, list[tuple[InNetwork, Value]]] = {}
        removed: dict[NetworkName, list[InNetwork]] = {}
        for key, value in puts:
            added.setdefault(key[0], []).append((key, value))
        for key in deletes:
            removed.setdefault(key[0], []).append(key)
        for name in added | removed:
            known = tables[name] if name in tables else MappingProxyType[InNetwork, Value]({})
            tables[name] = changed(known, added.get(name, ()), removed.get(name, ()))
        kept = {name: table for name, table in tables.items() if table}
        is_same = len(kept) == len(self.tables) and all(kept[name] is table for name, table in self.tables.items())
        return self if is_same else ByNetwork(MappingProxyType(kept))

    def __getitem__(self, key: InNetwork) -> Value:
        """Return a record; raise `KeyError` when there is none with this key."""
        return self.tables[key[0]][key]

    def __contains__(self, key: object) -> bool:
        """Tell whether there is a record with this key."""
        return isinstance(key, tuple) and bool(key) and key in self.tables.get(key[0], _NONE)

    def __iter__(self) -> Iterator[InNetwork]:
        """Iterate over the keys, one network after the other."""
        return chain.from_iterable(self.tables.values())

    def __len__(self) -> int:
        """Return the number of records."""
        return sum(map(len, self.tables.values()))

    def values(self) -> ValuesView[Value]:
        """Return the records, one network after the other."""
        return _Values(self)

    def items(self) -> ItemsView[InNetwork, Value]:
        """Return keys and records, one network after the other."""
        return _Items(self)


class _Values(ValuesView[Value]):
    """Values that are not looked up one by one."""

    def __init__(self, whole: ByNetwork[InNetwork, Value]) -> None:
        super().__init__(whole)
        self._tables = whole.tables

    def __iter__(self) -> Iterator[Value]:
        return chain.from_iterable(table.values() for table in self._tables.values())


class _Items(ItemsView[InNetwork, Value]):
    """Keys and values that are not looked up one by one."""

    def __init__(self, whole: ByNetwork[InNetwork, Value]) -> None:
        super().__init__(whole)
        self._tables = whole.tables

    def __iter__(self) -> Iterator[tuple[InNetwork, Value]]:
        return chain.from_iterable(table.items() for table in self._tables.values())


_NONE: Mapping[object, object] = MappingProxyType({})
"""The table of each network without records: the same object, as that tells that nothing has changed."""
