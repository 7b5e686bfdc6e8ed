"""Which number the gateway of a new network gets. Pure."""

from collections import Counter
from collections.abc import Iterable

from overlayd.model.ids import Vni
from overlayd.model.network import GATEWAY_NUMBERS, Network


def gateway_number(networks: Iterable[Network], vni: Vni) -> int:
    """Return the number that the fewest of these networks have, of several the next one from the place of the VNI on.

    The VNI makes controllers choose differently that create networks at the same moment.
    """
    used = Counter(network.gateway_number for network in networks)
    fewest = min(used[number] for number in GATEWAY_NUMBERS)
    start = (vni - 1) % len(GATEWAY_NUMBERS)
    in_order = (*GATEWAY_NUMBERS[start:], *GATEWAY_NUMBERS[:start])
    return next(number for number in in_order if used[number] == fewest)
