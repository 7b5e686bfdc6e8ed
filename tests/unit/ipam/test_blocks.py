"""How large the blocks of a range are when nobody chose."""

from ipaddress import IPv4Network, IPv6Network

import pytest

from overlayd.ipam.blocks import default_block_length
from overlayd.model.address import IpNetwork
from overlayd.model.network import Pool


@pytest.mark.parametrize(
    ("whole", "length"),
    [
        (IPv4Network("10.0.0.0/8"), 26),
        (IPv4Network("10.32.0.0/16"), 26),
        (IPv4Network("10.32.0.0/24"), 26),
        (IPv4Network("10.32.0.0/26"), 28),
        (IPv4Network("10.32.0.0/29"), 29),
        (IPv6Network("fd00::/16"), 112),
        (IPv6Network("fd00::/112"), 114),
        (IPv6Network("fd00::/125"), 125),
    ],
)
def test_a_range_without_a_chosen_block_length_gets_one_that_fits(whole: IpNetwork, length: int) -> None:
    assert default_block_length(whole) == length
    assert Pool(whole, length).capacity >= 1
