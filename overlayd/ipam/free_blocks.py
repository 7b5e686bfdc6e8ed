"""The free blocks of a pool, kept up to date incrementally: an update costs the same in a large or a full pool."""

from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterator
from ipaddress import IPv4Network, IPv6Network

from overlayd.ipam import addresses
from overlayd.model.address import Family, IpAddress, IpNetwork, contains, overlap
from overlayd.model.network import Network, Pool

Span = tuple[int, int]
"""A half-open interval of integers."""


class FreeNumbers:
    """A set of integers stored as sorted intervals, so that memory grows with the number of gaps only."""

    def __init__(self, first: int, end: int) -> None:
        self._starts = [first] if first < end else []
        self._ends = [end] if first < end else []
        self.count = end - first
        """How many numbers are free."""

    def take(self, first: int, end: int) -> None:
        """Remove the numbers from `first` up to `end`, `end` excluded. Missing ones are ignored."""
        if first >= end:
            return
        start, stop = bisect_right(self._ends, first), bisect_left(self._starts, end)
        kept: list[Span] = []
        for at in range(start, stop):
            low, high = self._starts[at], self._ends[at]
            self.count -= min(high, end) - max(low, first)
            kept += [span for span in ((low, first), (end, high)) if span[0] < span[1]]
        self._replace(start, stop, kept)

    def give(self, first: int, end: int) -> None:
        """Add the numbers from `first` up to `end`, `end` excluded. Those that are free already are ignored."""
        if first >= end:
            return
        start, stop = bisect_left(self._ends, first), bisect_right(self._starts, end)
        low, high = first, end
        for at in range(start, stop):
            low, high = min(low, self._starts[at]), max(high, self._ends[at])
            self.count -= self._ends[at] - self._starts[at]
        self.count += high - low
        self._replace(start, stop, [(low, high)])

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._ends, number)
        return at < len(self._starts) and self._starts[at] <= number

    def __iter__(self) -> Iterator[int]:
        """Yield the free numbers, the lowest first."""
        for first, end in self.spans():
            yield from range(first, end)

    def spans(self) -> Iterator[Span]:
        """Yield the intervals, the lowest first; no two of them touch."""
        return zip(self._starts, self._ends, strict=True)

    def _replace(self, start: int, stop: int, spans: list[Span]) -> None:
        self._starts[start:stop] = [first for first, _ in spans]
        self._ends[start:stop] = [end for _, end in spans]


class FreeBlocks:
    """The blocks of one pool that can be allocated: those without an owner that have an address for a container."""

    def __init__(self, network: Network, pool: Pool) -> None:
        self._pool = pool
        self._origin = int(pool.range.network_address)
        self._size = 1 << (pool.range.max_prefixlen - pool.block_length)
        self._usable, self._free = FreeNumbers(0, pool.capacity), FreeNumbers(0, pool.capacity)
        for first, end in self._unusable(network):
            self._usable.take(first, end)
            self._free.take(first, end)

    @property
    def count(self) -> int:
        """How many blocks are free."""
        return self._free.count

    @property
    def usable(self) -> int:
        """How many blocks of the pool have an address for a container, allocated ones included."""
        return self._usable.count

    def take(self, part: IpNetwork) -> None:
        """Mark every block that overlaps a range as taken. A range outside the pool is ignored."""
        if overlap(part, self._pool.range):
            self._free.take(*self._covered(_span(part)))

    def give(self, block: IpNetwork) -> None:
        """Mark one block as free. A block that is outside the pool or has no address for a container is ignored."""
        if contains(self._pool.range, block):
            first, end = self._covered(_span(block))
            if first in self._usable:
                self._free.give(first, end)

    def free(self, skipped: Container[tuple[int, int]] = ()) -> Iterator[IpNetwork]:
        """Yield the free blocks, the lowest first, except those whose (IP version, first address) is in `skipped`."""
        version, origin, size = int(self._pool.family), self._origin, self._size
        return (self._block(number) for number in self._free if (version, origin + number * size) not in skipped)

    def around(self, address: IpAddress) -> IpNetwork:
        """Return the block that contains an address of the pool."""
        return self._block((int(address) - self._origin) // self._size)

    def _covered(self, span: Span) -> Span:
        """Return the interval of the numbers of all blocks that overlap an interval of addresses."""
        first, end = max(span[0], self._origin), min(span[1], self._origin + self._size * self._pool.capacity)
        return (first - self._origin) // self._size, (end - 1 - self._origin) // self._size + 1

    def _unusable(self, network: Network) -> Iterator[Span]:
        """Yield intervals of the numbers of blocks in which reserved ranges leave no address for a container."""
        reserved = FreeNumbers(0, 0)
        for kept in network.reserved:
            if contains(self._pool.range, kept):
                reserved.give(*_span(kept))
        for span in reserved.spans():
            first, end = self._covered(span)
            if addresses.is_usable(network, self._block(first)):
                first += 1
            if end > first and addresses.is_usable(network, self._block(end - 1)):
                end -= 1
            if first < end:
                yield first, end

    def _block(self, number: int) -> IpNetwork:
        first = self._origin + number * self._size
        if self._pool.family is Family.V4:
            return IPv4Network((first, self._pool.block_length))
        return IPv6Network((first, self._pool.block_length))


def _span(part: IpNetwork) -> Span:
    return int(part.network_address), int(part.broadcast_address) + 1
