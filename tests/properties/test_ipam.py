"""Allocation, whatever comes and goes: nothing overlaps, the lowest is found, and full means full."""

from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlayd.ipam import addresses
from overlayd.ipam.free_blocks import FreeBlocks, FreeNumbers
from overlayd.model.address import IpAddress, IpNetwork
from overlayd.model.block import Block
from overlayd.model.errors import Exhausted, InvalidValue
from overlayd.model.ids import NetworkName, Vni
from overlayd.model.network import Network, Pool, Topology
from tests.support.controllers import clusters


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


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """A network with one small pool and reserved ranges of any size."""
    pool = draw(pools())
    lengths = st.integers(pool.range.prefixlen, 32)
    parts = draw(
        st.lists(
            st.tuples(lengths, st.integers(0, 2**24)).map(
                lambda drawn: _part(pool, *drawn),
            ),
            max_size=5,
        )
    )
    return Network(NetworkName("blue"), Vni(1), draw(st.sampled_from(Topology)), (pool,), reserved=tuple(parts))


def _part(pool: Pool, length: int, number: int) -> IpNetwork:
    step = 1 << (32 - length)
    return IPv4Network((int_of(pool.range) + number % (1 << (length - pool.range.prefixlen)) * step, length))


@given(networks(), st.data())
def test_vacancies_are_as_a_naive_search_finds_them(network: Network, data: st.DataObject) -> None:
    pool = network.pools[0]
    vacancies, taken = FreeBlocks(network, pool), set[IpNetwork]()
    offered = [cidr for cidr in every_block(pool) if addresses.is_usable(network, cidr)]
    assert vacancies.usable == len(offered)
    for block in data.draw(st.lists(st.sampled_from(every_block(pool)), max_size=40)):
        if block in taken:
            taken.remove(block)
            vacancies.give(block)
        else:
            taken.add(block)
            vacancies.take(block)
        free = [cidr for cidr in offered if cidr not in taken]
        assert [*vacancies.free()] == free
        assert vacancies.count == len(free)


@given(st.data())
def test_free_numbers_are_as_a_set_has_them(data: st.DataObject) -> None:
    end = data.draw(st.integers(0, 40))
    free, model = FreeNumbers(0, end), set(range(end))
    spans = st.tuples(st.integers(0, 45), st.integers(0, 45)).map(sorted)
    for first, last in data.draw(st.lists(spans, max_size=30)):
        if data.draw(st.booleans()):
            free.take(first, last)
            model -= set(range(first, last))
        else:
            free.give(first, last)
            model |= set(range(first, last))
        assert [*free] == sorted(model)
        assert free.count == len(model)
        assert all((number in free) == (number in model) for number in range(50))
        intervals = [*free.spans()]
        assert all(low[1] < high[0] for low, high in pairwise(intervals))
        assert all(low < high for low, high in intervals)


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
