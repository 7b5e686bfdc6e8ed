"""The addresses that Docker asked for and forgot, as it died between RequestAddress and CreateEndpoint.

Docker asks for the addresses of an endpoint, creates the endpoint, and only then writes down that it has them (moby,
libnetwork/network.go: createEndpoint). So a Docker that ends before CreateEndpoint has forgotten the address: it
neither asks for it again nor gives it back. From CreateEndpoint on the address is Docker's until Docker gives it back,
however long that takes. Auxiliary addresses never belong to an endpoint; Docker asks for them without a MAC, and they
never expire.
"""

import asyncio
from collections.abc import Iterable

import structlog

from overlayd.agent.attach.addressing import Addressing
from overlayd.agent.runtime.logs import Complaint
from overlayd.model.address import IpAddress
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import MacAddress, NetworkName

_log = structlog.get_logger(__name__)

EXPIRY = 600.0
"""Seconds from RequestAddress to CreateEndpoint. Docker gives up a call to a plugin after half a minute.

Time in which the machine sleeps does not count (clock_gettime(2): CLOCK_MONOTONIC), and after a restart of the agent
the time begins again. A Docker that was stopped for longer is refused the endpoint, and gives the address back.
"""

_INTERVAL = 30.0


class IntendedAddresses:
    """Lets go of what is held for endpoints that Docker has not created in time."""

    def __init__(self, addressing: Addressing) -> None:
        self._addressing = addressing
        self._since: dict[tuple[NetworkName, IpAddress, MacAddress], float] = {}

    def created(self, network: NetworkName, addresses: Iterable[IpAddress], mac: MacAddress | None) -> None:
        """Record that Docker creates an endpoint with these addresses.

        Raises `InvalidValue` for one that is no longer held for it, or `OSError` when that cannot be written.
        """
        given, held, intended = list(addresses), self._addressing.held(), self._addressing.intended()
        for address in given:
            intended_for = intended.get((network, address), mac)
            if (network, address) not in held or mac not in {None, intended_for}:
                raise InvalidValue(
                    f"{address} of network {network} is not held for this endpoint (any more): start the container"
                    " again",
                    field="Interface",
                )
        for address in given:
            self._addressing.settle(network, address)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        failure = Complaint("an address that Docker forgot cannot be given out again yet")
        while True:
            try:
                self._expire(asyncio.get_running_loop().time())
                failure.over()
            except OSError as error:
                failure.because(str(error))
            await asyncio.sleep(_INTERVAL)

    def _expire(self, now: float) -> None:
        """Let go of what has been intended for too long at `now`, in seconds of a clock that never jumps."""
        intended = {(network, address, mac) for (network, address), mac in self._addressing.intended().items()}
        self._since = {each: self._since.get(each, now) for each in intended}
        for (network, address, _), since in self._since.items():
            if now - since >= EXPIRY:
                self._addressing.let_go(network, address)
                _log.info("Docker asked for an address and forgot it", network=network, address=str(address))
