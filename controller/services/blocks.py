"""Blocks: which part of a network's range belongs to which host."""

from collections.abc import Collection

from controller.journal.actor import Requester
from controller.journal.journal import TransactionDraft, Written
from controller.rules import free_units
from controller.rules.free_choice import FreeChoice
from controller.rules.wiring import RuleParts
from controller.services.hosts import Hosts
from controller.services.networks import Networks
from controller.state import keys
from controller.store.port import LeaseId, PutKey
from overlayd.model import ids
from overlayd.model.address import Family, IpNetwork
from overlayd.model.block import Block
from overlayd.model.cluster import RecordKey
from overlayd.model.errors import Exhausted, InUse, InvalidValue
from overlayd.model.host import Host, HostState
from overlayd.model.ids import HostId, NetworkName
from overlayd.model.network import NetworkState
from overlayd.wire import schema1


class Blocks:
    """The blocks of the cluster."""

    def __init__(self, rules: RuleParts, networks: Networks, hosts: Hosts, most: int) -> None:
        """`most` is how many blocks of a family one host may get in one network."""
        self._mirror = rules.mirror
        self._journal = rules.journal
        self._quarantine = rules.quarantine
        self._chance = rules.chance
        self._recovery = rules.recovery
        self._removals = rules.removals
        self._networks = networks
        self._hosts = hosts
        self._most = most

    def select(self, network: NetworkName | None, host: HostId | None) -> list[Block]:
        """Return the blocks of a network, of a host, of a host in a network, or all."""
        intent = self._mirror.intent
        if host is not None:
            return [block for block in intent.blocks_of(host) if network in (None, block.network)]
        return list(intent.blocks_in(network)) if network is not None else intent.blocks()

    async def acquire(
        self,
        by: Requester,
        network: NetworkName,
        host: HostId,
        held: Collection[IpNetwork],
        family: Family | None = Family.V4,
    ) -> Written[Block]:
        """Return a block of a family that the host owns besides those in `held`; allocate one if there is none.

        A new block is of the first pool of that family that has a free one. `family` None stands for a host of schema
        1, which gets blocks of the one IPv4 pool that it sees. A request that is repeated after a lost answer gets the
        same block.

        Raises:
            NotFound: there is no such network or host.
            Exhausted: no block is free, or the host has as many as a host may have there.
            InvalidValue: the network has no such pool.
            InUse: the network is being deleted, or the host is to get nothing new.
            Unavailable: hosts have yet to say what they use.
        """
        choice = FreeChoice(self._chance)

        def draft() -> TransactionDraft[Block]:
            found, owner = self._networks.get(network), self._hosts.get(host)
            if found.state is NetworkState.DELETING:
                raise InUse(f"network {network} is being deleted", field="network")
            _refuse_unless_active(owner)
            owned = [block for block in self.select(network, host) if block.family is (family or Family.V4)]
            unheld = [block for block in owned if block.cidr not in held]
            if unheld:
                return TransactionDraft(min(unheld, key=lambda block: int(block.cidr.network_address)))
            if len(owned) >= self._most:
                raise Exhausted(
                    f"host {owner.name} has {len(owned)} blocks of network {network}, as many as a host may have there"
                    " (the controllers' setting host-blocks)"
                )
            self._recovery.refuse()
            choice.attempt()
            offered = found if family else schema1.network(found)
            unit = choice.among(free_units.free(self._mirror, self._journal, offered, family or Family.V4))
            if unit is None:
                raise free_units.exhausted(self._mirror, offered, family or Family.V4)
            block = Block(network, unit, owner.id)
            key, holdings = keys.of(block), keys.holdings(host)
            compared = (key, keys.withheld(network, unit), holdings, keys.network(network), keys.host(host))
            return TransactionDraft(
                block,
                tuple(self._journal.unchanged(each) for each in compared),
                (self._mirror.put(block), PutKey(holdings, keys.EMPTY)),
            )

        return await self._journal.write(by, draft)

    async def release(self, by: Requester, network: NetworkName, cidr: IpNetwork, host: HostId) -> Written[None]:
        """Give back a block, which goes into quarantine. The last block of a DELETING network takes it along.

        A block that does not exist is given back already. Raises `NotFound`, `InvalidValue` when another host owns the
        block, `InUse` while endpoints of the host have addresses in it.
        """

        def draft(lease: LeaseId) -> TransactionDraft[None]:
            block = self._mirror.intent.find(RecordKey(Block, (network, cidr)))
            if not isinstance(block, Block):
                return TransactionDraft(None)
            self._refuse_release(block, host)
            removal = self._removals.block(self._networks.get(network), block, lease)
            return TransactionDraft.of(self._removals.guarded(host, [removal]), None)

        self._hosts.get(host)
        return await self._quarantine.write(by, draft)

    def _refuse_release(self, block: Block, host: HostId) -> None:
        if block.host != host:
            raise InvalidValue(f"block {block.cidr} of {block.network} belongs to host {block.host}", field="host")
        for endpoint in self._mirror.intent.endpoints_of(host):
            used = [address for address in endpoint.addresses if address in block.cidr]
            if endpoint.network == block.network and used:
                container = ids.quoted(endpoint.container_id)
                raise InUse(f"{used[0]} of block {block.cidr} belongs to container {container}")


def _refuse_unless_active(host: Host) -> None:
    match host.state:
        case HostState.DRAINING:
            raise InUse(
                f"host {host.name} is draining and gets no block; overlayctl host resume {host.id} lets it",
                field="host",
            )
        case HostState.FORGETTING:
            raise InUse(f"host {host.name} is being forgotten and gets no block", field="host")
