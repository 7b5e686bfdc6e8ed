"""Choosing a block of a pool."""

from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network

from netaddr import IPNetwork, IPSet

from overlayd.model.address import Family, IpNetwork
from overlayd.model.errors import Exhausted
from overlayd.model.network import BLOCK_LENGTH_MAX, Pool

_COMMON_LENGTH = {Family.V4: 26, Family.V6: 112}
"""Room for some 60 containers, or for all that IPv6 can be asked for: most hosts need one block."""


def default_block_length(whole: IpNetwork) -> int:
    """Return the prefix length of blocks for a range nobody chose one for.

    That is /26, or /112 for IPv6, or longer so that four blocks fit.
    """
    family = Family.of(whole)
    return min(BLOCK_LENGTH_MAX[family], max(_COMMON_LENGTH[family], whole.prefixlen + 2))


def free_block(pool: Pool, taken: Collection[IpNetwork]) -> IpNetwork:
    """Return the lowest block of the pool that overlaps none of `taken`; raise `Exhausted` when there is none.

    The cost grows with the number of taken blocks and not with the size of the pool.
    """
    free = IPSet([_netaddr(pool.range)]) - IPSet([_netaddr(block) for block in taken])
    for part in free.iter_cidrs():
        if part.prefixlen <= pool.block_length:
            return _block(pool, part.first)
    raise Exhausted(f"all {pool.capacity} blocks of {pool.range} are taken")


def _block(pool: Pool, first: int) -> IpNetwork:
    if pool.family is Family.V4:
        return IPv4Network((first, pool.block_length))
    return IPv6Network((first, pool.block_length))


def _netaddr(network: IpNetwork) -> IPNetwork:
    return IPNetwork((int(network.network_address), network.prefixlen), version=network.version)
