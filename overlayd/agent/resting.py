"""Addresses that containers of this host had a moment ago."""

from collections import defaultdict
from collections.abc import Callable, Iterable

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
        end = self._now() + QUARANTINE_SECONDS
        self._until[network].update((address, end) for address in addresses)

    def of(self, network: NetworkName) -> frozenset[IpAddress]:
        """Return the addresses of a network that rest now."""
        now = self._now()
        resting = {address: end for address, end in self._until[network].items() if end > now}
        if resting:
            self._until[network] = resting
        else:
            del self._until[network]
        return frozenset(resting)
