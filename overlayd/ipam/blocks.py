"""The default size of the blocks of a range."""

from overlayd.model.address import Family, IpNetwork
from overlayd.model.network import BLOCK_LENGTH_MAX

_COMMON_LENGTH = {Family.V4: 26, Family.V6: 112}
"""Enough for about 60 containers over IPv4 and 65,000 over IPv6, so that most hosts need one block."""


def default_block_length(whole: IpNetwork) -> int:
    """Return the prefix length that blocks of a range have by default.

    It is 26 for IPv4 and 112 for IPv6; in a small range it is longer, so that the range has at least four blocks.
    """
    family = Family.of(whole)
    return min(BLOCK_LENGTH_MAX[family], max(_COMMON_LENGTH[family], whole.prefixlen + 2))
