"""The other hosts with which this one shares networks, determined again where something has changed."""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Generic, TypeVar

from overlayd.model.block import Block, BlockKey
from overlayd.model.cluster import Cluster, differing
from overlayd.model.host import Host
from overlayd.model.ids import HostId, NetworkName

V = TypeVar("V")

Maker = Callable[[NetworkName, Host, tuple[Block, ...]], V | None]
"""Makes the value of a host that has these blocks of a network; None when it has none there."""


class SharedHosts(Generic[V]):
    """A value for each host that has blocks of certain networks; of several networks the first one with a value counts.

    A change costs the values of the hosts whose blocks or records it touches.
    """

    def __init__(self) -> None:
        self.values: Mapping[HostId, V] = {}
        self._context: object = None
        self._tables: dict[NetworkName, Mapping[BlockKey, Block]] = {}
        self._held: dict[NetworkName, dict[HostId, tuple[Block, ...]]] = {}
        self._hosts: Mapping[HostId, Host] = {}

    def update(
        self, cluster: Cluster, networks: tuple[NetworkName, ...], context: object, make: Maker[V]
    ) -> frozenset[HostId]:
        """Determine the values in a cluster; return the hosts whose value has changed or is gone.

        `values` is another object after a change, even one of fields that comparisons leave out. `make` must depend on
        its arguments and on `context` alone.
        """
        touched = set[HostId]()
        if context != self._context or tuple(self._held) != networks:
            touched.update(self.values)
            self._context, self._tables, self._hosts = context, {}, {}
            self._held = {name: {} for name in networks}
        touched.update(host.id for host in chain(*differing(self._hosts, cluster.hosts)))
        self._hosts = cluster.hosts
        for name in networks:
            touched |= self._read(name, cluster.blocks.of(name))
        before, after = self.values, dict(self.values) if touched else {}
        for host in sorted(touched):
            value = self._value(host, make)
            if value is None:
                after.pop(host, None)
            else:
                after[host] = value
        if any(before.get(host) is not after.get(host) for host in touched):
            self.values = after
        return frozenset(host for host in touched if before.get(host) != after.get(host))

    def _read(self, name: NetworkName, table: Mapping[BlockKey, Block]) -> set[HostId]:
        """Read the blocks of a network; return the hosts that have others than before."""
        touched = {block.host for block in chain(*differing(self._tables.get(name, {}), table))}
        self._tables[name] = table
        held = self._held[name]
        for host in touched:
            held.pop(host, None)
        for block in [block for block in table.values() if block.host in touched] if touched else ():
            held[block.host] = (*held.get(block.host, ()), block)
        return touched

    def _value(self, host: HostId, make: Maker[V]) -> V | None:
        record = self._hosts.get(host)
        if record is None:
            return None
        found = (make(name, record, held[host]) for name, held in self._held.items() if host in held)
        return next((value for value in found if value is not None), None)
