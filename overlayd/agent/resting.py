"""Addresses that containers of this host had a moment ago."""

from collections import defaultdict
from collections.abc import Callable, Iterable, KeysView

from overlayd.model.address import IpAddress
from overlayd.model.ids import NetworkName

QUARANTINE_SECONDS = 30.0
"""How long an address rests that a container gave back: others may have connections to it, and its MAC in mind."""


class RestingAddresses:
    """The quarantine of this host's addresses. `now` tells the time in seconds and never jumps.

    It ends with the agent's process: a restart takes longer than most of what it is good against.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._until: defaultdict[NetworkName, dict[IpAddress, float]] = defaultdict(dict)

    def add(self, network: NetworkName, addresses: Iterable[IpAddress]) -> None:
        """Let addresses of a network rest from now on."""
        end, resting = self._now() + QUARANTINE_SECONDS, self._until[network]
        for address in addresses:
            resting.pop(address, None)  # they stand in the order in which their rest ends
            resting[address] = end

    def of(self, network: NetworkName) -> KeysView[IpAddress]:
        """Return the addresses of a network that rest; good until something else is asked of this."""
        now, resting = self._now(), self._until[network]
        while resting and resting[first := next(iter(resting))] <= now:
            del resting[first]
        return resting.keys()
