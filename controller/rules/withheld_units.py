"""Units that are withheld for hosts which use them, of networks or blocks that the store has lost."""

from collections.abc import Collection

from controller.journal.actor import Requester
from controller.journal.journal import Journal, TransactionDraft
from controller.state import keys
from controller.state.address_space import Claimant
from controller.state.mirror import Mirror
from controller.store.port import DeleteKey
from overlayd.model.address import IpNetwork
from overlayd.model.ids import HostId, NetworkName


class WithheldUnits:
    """Releases units that are withheld for hosts."""

    def __init__(self, mirror: Mirror, journal: Journal) -> None:
        self._mirror = mirror
        self._journal = journal

    def is_any_for(self, host: HostId) -> bool:
        """Return whether something is withheld for a host."""
        return any(claimant.host == host for _, _, claimant in self._mirror.occupancy.claimed)

    async def let_go_of(self, by: Requester, host: HostId, but: Collection[tuple[NetworkName, IpNetwork]] = ()) -> None:
        """Release everything that is withheld for a host, except what it uses."""
        for name, unit, claimant in self._mirror.occupancy.claimed:
            if claimant.host == host and (name, unit) not in but:
                await self._journal.write(by, lambda: self._without(name, unit, claimant))  # noqa: B023 - used at once

    def _without(self, name: NetworkName, unit: IpNetwork, claimant: Claimant) -> TransactionDraft[None]:
        space, networks = self._mirror.occupancy.space(name), self._mirror.intent.networks
        key, vni = keys.withheld(name, unit), keys.vni(claimant.vni)
        if space.claimants.get(unit) != claimant:
            return TransactionDraft(None)
        compares = tuple(self._journal.unchanged(each) for each in (key, vni, keys.network(name)))
        is_last = sum(each.vni == claimant.vni for each in space.claimants.values()) == 1
        is_owned = any(network.vni == claimant.vni for network in networks.values())
        freed = (DeleteKey(vni),) if is_last and not is_owned else ()
        return TransactionDraft(None, compares, (DeleteKey(key), *freed))
