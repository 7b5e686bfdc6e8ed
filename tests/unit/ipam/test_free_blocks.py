"""Free blocks: the lowest first, never one that is taken or of no use, in pools of any size."""

from ipaddress import ip_address, ip_network
from itertools import islice

import pytest

from overlayd.ipam.free_blocks import FreeBlocks, FreeNumbers
from overlayd.model.ids import NetworkName, Vni
from overlayd.model.network import Network, Pool, Topology


def vacancies(cidr: str, block_length: int, *reserved: str, topology: Topology = Topology.ROUTED) -> FreeBlocks:
    pool = Pool(ip_network(cidr), block_length)
    kept = tuple(ip_network(each) for each in reserved)
    return FreeBlocks(Network(NetworkName("blue"), Vni(1), topology, (pool,), reserved=kept), pool)


def some(found: FreeBlocks, number: int = 3) -> list[str]:
    return [str(block) for block in islice(found.free(), number)]


@pytest.mark.parametrize(
    ("taken", "first"),
    [
        ([], "10.32.0.0/24"),
        (["10.32.0.0/24"], "10.32.1.0/24"),
        (["10.32.1.0/24"], "10.32.0.0/24"),
        (["10.32.0.0/24", "10.32.2.0/24"], "10.32.1.0/24"),
        (["10.32.2.0/24", "10.32.1.0/24", "10.32.0.0/24"], "10.32.3.0/24"),
        (["10.32.0.0/26"], "10.32.1.0/24"),
        (["10.32.0.0/22"], "10.32.4.0/24"),
        (["10.32.0.0/32"], "10.32.1.0/24"),
        (["10.32.0.255/32"], "10.32.1.0/24"),
        (["10.32.0.200/29", "10.32.1.0/29"], "10.32.2.0/24"),
        (["10.33.0.0/24", "192.0.2.0/24", "fd00::/64"], "10.32.0.0/24"),
        (["10.0.0.0/8"], None),
    ],
)
def test_the_lowest_free_block_comes_first(taken: list[str], first: str | None) -> None:
    found = vacancies("10.32.0.0/16", 24)
    for cidr in taken:
        found.take(ip_network(cidr))
    assert some(found, 1) == ([first] if first else [])


@pytest.mark.parametrize(
    ("cidr", "length", "last"),
    [
        ("10.0.0.0/24", 29, "10.0.0.248/29"),
        ("10.0.0.0/8", 29, "10.255.255.248/29"),
        ("fd00:1:2::/48", 112, "fd00:1:2:ffff:ffff:ffff:ffff:0/112"),
        ("fd00::/16", 125, "fd00:ffff:ffff:ffff:ffff:ffff:ffff:fff8/125"),
    ],
)
def test_the_far_end_of_a_pool_is_as_near_as_the_beginning(cidr: str, length: int, last: str) -> None:
    found, end = vacancies(cidr, length), ip_network(last)
    for part in ip_network(cidr).address_exclude(end):  # type: ignore[arg-type] # both are of one family
        found.take(part)
    assert (some(found), found.count) == ([last], 1)
    found.take(end)
    assert (some(found), found.count) == ([], 0)
    found.give(end)
    assert some(found) == [last]
    assert end[0] in found.around(end[-1])


def test_blocks_that_are_skipped_are_not_offered() -> None:
    found = vacancies("10.32.0.0/16", 24)
    skipped = {(4, int(ip_address("10.32.1.0"))), (4, int(ip_address("10.99.0.0"))), (6, int(ip_address("10.32.2.0")))}
    assert [str(block) for block in islice(found.free(skipped), 2)] == ["10.32.0.0/24", "10.32.2.0/24"]


@pytest.mark.parametrize(
    ("reserved", "free"),
    [
        (["10.32.0.0/16"], []),
        (["10.32.0.0/24"], ["10.32.1.0/24", "10.32.2.0/24", "10.32.3.0/24"]),
        (["10.32.1.0/24", "10.32.3.0/24"], ["10.32.0.0/24", "10.32.2.0/24", "10.32.4.0/24"]),
        # Smaller ranges leave the block to hosts, unless nothing of it is left.
        (["10.32.0.128/25", "10.32.1.0/24"], ["10.32.0.0/24", "10.32.2.0/24", "10.32.3.0/24"]),
        (["10.32.1.0/24", "10.32.2.0/25"], ["10.32.0.0/24", "10.32.2.0/24", "10.32.3.0/24"]),
        (["10.32.0.0/25"], ["10.32.0.0/24", "10.32.1.0/24", "10.32.2.0/24"]),
        (["10.32.0.0/25", "10.32.0.128/25"], ["10.32.1.0/24", "10.32.2.0/24", "10.32.3.0/24"]),
        (
            [
                "10.32.1.2/31",
                "10.32.1.4/30",
                "10.32.1.8/29",
                "10.32.1.16/28",
                "10.32.1.32/27",
                "10.32.1.64/26",
                "10.32.1.128/25",
            ],
            ["10.32.0.0/24", "10.32.1.0/24", "10.32.2.0/24"],
        ),
        (
            [
                "10.32.1.1/32",
                "10.32.1.2/31",
                "10.32.1.4/30",
                "10.32.1.8/29",
                "10.32.1.16/28",
                "10.32.1.32/27",
                "10.32.1.64/26",
                "10.32.1.128/25",
            ],
            ["10.32.0.0/24", "10.32.2.0/24", "10.32.3.0/24"],
        ),
    ],
)
def test_blocks_that_reserved_ranges_fill_are_not_offered(reserved: list[str], free: list[str]) -> None:
    found = vacancies("10.32.0.0/16", 24, *reserved)
    assert some(found) == free
    assert found.usable == found.count
    for cidr in reserved:
        for block in (ip_network(cidr),) if cidr.endswith("/24") else ():
            found.give(block)
    assert some(found) == free


def test_free_numbers_are_counted() -> None:
    found = FreeNumbers(3, 7)
    assert (found.count, list(found)) == (4, [3, 4, 5, 6])
