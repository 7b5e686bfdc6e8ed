"""Choosing a block: the lowest that is free, until the pool is full."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Self

import pytest

from overlayd.ipam.blocks import default_block_length, free_block
from overlayd.model.errors import Exhausted
from overlayd.model.network import Pool


def pool(cidr: str, block_length: int) -> Pool:
    return Pool(IPv4Network(cidr), block_length)


def cidrs(*texts: str) -> list[IPv4Network]:
    return [IPv4Network(text) for text in texts]


@pytest.mark.parametrize(
    ("taken", "found"),
    [
        ([], "10.32.0.0/24"),
        (["10.32.0.0/24"], "10.32.1.0/24"),
        (["10.32.1.0/24"], "10.32.0.0/24"),
        (["10.32.0.0/24", "10.32.2.0/24"], "10.32.1.0/24"),
        (["10.32.2.0/24", "10.32.1.0/24", "10.32.0.0/24"], "10.32.3.0/24"),
        (["10.32.0.0/26"], "10.32.1.0/24"),
        (["10.32.0.0/22"], "10.32.4.0/24"),
        (["10.32.0.200/29", "10.32.1.0/29"], "10.32.2.0/24"),
        (["10.33.0.0/24", "192.0.2.0/24"], "10.32.0.0/24"),
    ],
)
def test_the_lowest_free_block_is_found(taken: list[str], found: str) -> None:
    assert free_block(pool("10.32.0.0/16", 24), cidrs(*taken)) == IPv4Network(found)


def test_a_pool_of_one_block_gives_itself() -> None:
    whole = pool("10.32.0.0/24", 24)
    assert free_block(whole, []) == whole.range
    with pytest.raises(Exhausted, match=r"all 1 blocks of 10\.32\.0\.0/24 are taken"):
        free_block(whole, [whole.range])


def test_a_pool_without_a_whole_free_block_is_exhausted() -> None:
    with pytest.raises(Exhausted):
        free_block(pool("10.32.0.0/24", 25), cidrs("10.32.0.0/29", "10.32.0.248/29"))


class UnwalkableRange(IPv4Network):
    """A range that refuses to be walked block by block or address by address."""

    def subnets(self, prefixlen_diff: int = 1, new_prefix: int | None = None) -> Iterator[Self]:
        raise AssertionError((prefixlen_diff, new_prefix))

    def __iter__(self) -> Iterator[IPv4Address]:
        raise AssertionError


def test_the_last_block_of_the_largest_pool_is_found_from_the_taken_ones() -> None:
    # All but one of 2^21 blocks are taken, as 21 ranges.
    whole, last = IPv4Network("10.0.0.0/8"), IPv4Network("10.255.255.248/29")
    taken = list(whole.address_exclude(last))
    assert free_block(Pool(UnwalkableRange(whole), 29), taken) == last


@pytest.mark.parametrize(
    ("cidr", "length"),
    [("10.0.0.0/8", 26), ("10.32.0.0/16", 26), ("10.32.0.0/24", 26), ("10.32.0.0/26", 28), ("10.32.0.0/29", 29)],
)
def test_a_range_without_a_chosen_block_length_gets_one_that_fits(cidr: str, length: int) -> None:
    assert default_block_length(IPv4Network(cidr)) == length
    assert pool(cidr, length).capacity >= 1
