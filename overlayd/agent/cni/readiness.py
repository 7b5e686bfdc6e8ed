"""STATUS: whether an ADD could succeed now."""

from collections.abc import Awaitable, Callable

from overlayd.agent.attach.addressing import Addressing
from overlayd.agent.controllers.client import ControllerClient
from overlayd.agent.holdings.blocks import HeldBlocks
from overlayd.model.address import Family
from overlayd.model.errors import OverlayError, Unavailable
from overlayd.model.ids import NetworkName
from overlayd.model.network import Network, NetworkState
from overlayd.wire.cni.error import CniError, Code


class Readiness:
    """Checks what an ADD would need, and takes nothing."""

    def __init__(
        self,
        blocks: HeldBlocks,
        addressing: Addressing,
        ensure: Callable[[NetworkName], Awaitable[None]],
        client: ControllerClient,
    ) -> None:
        self._blocks = blocks
        self._addressing = addressing
        self._ensure = ensure
        self._client = client

    async def check(self, name: NetworkName) -> None:
        """Return when an ADD could succeed.

        Raises:
            CniError: NOT_AVAILABLE when this host cannot attach anything to the network, LIMITED when what is attached
                goes on but there is no address for more, or the network is not whole on this host.
        """
        known = self._blocks.network_or_none(name)
        try:
            self._blocks.check_active()
            network = known or await self._client.network(name)
        except Unavailable as error:
            raise CniError(Code.NOT_AVAILABLE, f"this host has no block of network {name}: {error}") from None
        except OverlayError as error:
            raise CniError(Code.NOT_AVAILABLE, str(error)) from None
        if network.state is NetworkState.DELETING:
            raise CniError(Code.NOT_AVAILABLE, f"network {name} is being deleted")
        for family in sorted(network.families):
            await self._check_addresses(network, family)
        if known:
            try:
                await self._ensure(name)
            except OverlayError as error:
                raise CniError(Code.LIMITED, str(error)) from None

    async def _check_addresses(self, network: Network, family: Family) -> None:
        """Check that a container can get an address of a family, from a block of this host or from a further block."""
        if self._addressing.has_free(network, family):
            return
        held = self._blocks.held(network.name, family)
        try:
            if await self._client.free_blocks(network.name, family):
                return
        except Unavailable as error:
            if self._addressing.has_free(network, family, resting=True):
                return
            code = Code.LIMITED if held else Code.NOT_AVAILABLE
            reason = f"this host has no free IPv{family} address of network {network.name}"
            raise CniError(code, f"{reason}, and no controller gives it a block: {error}") from None
        except OverlayError as error:
            raise CniError(Code.NOT_AVAILABLE, str(error)) from None
        raise CniError(Code.LIMITED, f"network {network.name} has no free IPv{family} address for this host")
