"""Allocation, whatever comes and goes: nothing overlaps, the lowest is found, and full means full."""

from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlayd.ipam import addresses
from overlayd.ipam.blocks import free_block
from overlayd.model.address import IpAddress, IpNetwork, contains, overlap
from overlayd.model.block import Block
from overlayd.model.errors import Exhausted, InvalidValue
from overlayd.model.network import Network, Pool, Topology
from tests.support import clusters


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Pools of up to 32 blocks."""
    block_length = draw(st.integers(20, 29))
    prefix = draw(st.integers(max(8, block_length - 5), block_length))
    start = draw(st.integers(0, 2 ** (prefix - 8) - 1)) << (32 - prefix)
    return Pool(IPv4Network((int(IPv4Address("10.0.0.0")) + start, prefix)), block_length)


@st.composite
def networks_with_blocks(draw: st.DrawFn) -> tuple[Network, list[Block]]:
    """A small network, and some of its blocks as one host's."""
    network = clusters.network(
        topology=draw(st.sampled_from(Topology)), cidr="10.32.0.0/26", block_length=draw(st.integers(26, 29))
    )
    every = every_block(network.pools[0])
    chosen = draw(st.lists(st.sampled_from(every), min_size=1, unique=True))
    return network, [clusters.block(1, str(cidr)) for cidr in sorted(chosen, key=int_of)]


def every_block(pool: Pool) -> list[IpNetwork]:
    return [*pool.range.subnets(new_prefix=pool.block_length)]


def int_of(cidr: IpNetwork) -> int:
    return int(cidr.network_address)


def first_piece(block: IpNetwork) -> IpNetwork:
    return IPv4Network((int_of(block), 29))


def addresses_of(network: Network) -> list[IpAddress]:
    return [*network.pools[0].range]


@given(pools(), st.data())
def test_the_free_block_is_the_lowest_that_overlaps_nothing(pool: Pool, data: st.DataObject) -> None:
    pieces = every_block(pool)
    pieces += [first_piece(block) for block in pieces]
    pieces.append(pool.range.supernet())
    taken = data.draw(st.lists(st.sampled_from(pieces), unique=True))
    free = [block for block in every_block(pool) if not any(overlap(block, other) for other in taken)]
    if free:
        assert free_block(pool, taken) == free[0]
    else:
        with pytest.raises(Exhausted):
            free_block(pool, taken)


@given(pools())
def test_a_pool_gives_as_many_blocks_as_it_holds(pool: Pool) -> None:
    taken: list[IpNetwork] = []
    for _ in range(pool.capacity):
        taken.append(free_block(pool, taken))
    assert taken == every_block(pool)
    with pytest.raises(Exhausted):
        free_block(pool, taken)


@given(pools(), st.data())
def test_blocks_never_overlap_and_released_ones_are_found_again(pool: Pool, data: st.DataObject) -> None:
    taken: list[IpNetwork] = []
    for _ in range(data.draw(st.integers(0, 40))):
        if len(taken) == pool.capacity or (taken and data.draw(st.booleans())):
            released = taken.pop(data.draw(st.integers(0, len(taken) - 1)))
            assert int_of(free_block(pool, taken)) <= int_of(released)
        else:
            taken.append(free_block(pool, taken))
        assert not any(overlap(one, other) for one, other in combinations(taken, 2))
        assert all(contains(pool.range, block) and block.prefixlen == pool.block_length for block in taken)


@given(networks_with_blocks())
def test_blocks_give_every_address_that_is_not_reserved_lowest_first(held: tuple[Network, list[Block]]) -> None:
    network, blocks = held
    given_out: list[IpAddress] = []
    for _ in range(sum(addresses.usable(network, block) for block in blocks)):
        given_out.append(addresses.free_address(network, blocks, given_out))
    reserved = frozenset().union(*(addresses.reserved(network, block) for block in blocks))
    assert given_out == [address for block in blocks for address in block.cidr if address not in reserved]
    with pytest.raises(Exhausted):
        addresses.free_address(network, blocks, given_out)


@given(networks_with_blocks(), st.data())
def test_a_released_address_is_found_again(held: tuple[Network, list[Block]], data: st.DataObject) -> None:
    network, blocks = held
    reserved = frozenset().union(*(addresses.reserved(network, block) for block in blocks))
    every: set[IpAddress] = {address for block in blocks for address in block.cidr} - reserved
    released = data.draw(st.sampled_from(sorted(every, key=int)))
    assert addresses.free_address(network, blocks, every - {released}) == released
    assert addresses.claim(network, blocks, every - {released}, released) == released


@given(networks_with_blocks(), st.data())
def test_an_address_is_found_exactly_when_one_is_free_whatever_was_given_out_last(
    held: tuple[Network, list[Block]], data: st.DataObject
) -> None:
    network, blocks = held
    reserved = frozenset().union(*(addresses.reserved(network, block) for block in blocks))
    unreserved: set[IpAddress] = {address for block in blocks for address in block.cidr} - reserved
    every = sorted(unreserved, key=int)
    taken = data.draw(st.frozensets(st.sampled_from(every)) | st.just(frozenset(every)))
    last = data.draw(st.none() | st.sampled_from(addresses_of(network)))
    free = [address for address in every if address not in taken]
    if not free:
        with pytest.raises(Exhausted):
            addresses.free_address(network, blocks, taken, last)
        return
    above = [address for address in free if last is None or int(address) > int(last)]
    assert addresses.free_address(network, blocks, taken, last) == min(above or free, key=int)


@given(networks_with_blocks(), st.data())
def test_a_claim_is_given_exactly_when_a_search_could_find_it(
    held: tuple[Network, list[Block]], data: st.DataObject
) -> None:
    network, blocks = held
    wanted = data.draw(st.sampled_from(addresses_of(network)))
    reserved = frozenset().union(*(addresses.reserved(network, block) for block in blocks))
    if any(wanted in block.cidr for block in blocks) and wanted not in reserved:
        assert addresses.claim(network, blocks, [], wanted) == wanted
    else:
        with pytest.raises(InvalidValue):
            addresses.claim(network, blocks, [], wanted)


@given(networks_with_blocks())
def test_every_block_keeps_exactly_one_address_for_the_host(held: tuple[Network, list[Block]]) -> None:
    network, blocks = held
    whole = network.pools[0].range
    special = {whole[0], whole[-1], addresses.gateway(network, blocks[0])}
    for block in blocks:
        assert len(addresses.reserved(network, block) - special) == 1
