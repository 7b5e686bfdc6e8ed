"""How large the blocks of a range are unless somebody chooses."""

from overlayd.model.address import Family, IpNetwork
from overlayd.model.network import BLOCK_LENGTH_MAX

_COMMON_LENGTH = {Family.V4: 26, Family.V6: 112}
"""Room for some 60 containers, or for all that IPv6 can be asked for: most hosts need one block."""


def default_block_length(whole: IpNetwork) -> int:
    """Return the prefix length of blocks for a range nobody chose one for.

    That is /26, or /112 for IPv6, or longer so that four blocks fit.
    """
    family = Family.of(whole)
    return min(BLOCK_LENGTH_MAX[family], max(_COMMON_LENGTH[family], whole.prefixlen + 2))
