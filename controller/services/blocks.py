"""Blocks: which part of a network's range belongs to which host."""

from collections.abc import Collection
from functools import lru_cache
from ipaddress import ip_network

from controller.services import keys
from controller.services.hosts import Hosts
from controller.services.journal import Draft, Journal, Written
from controller.services.mirror import Mirror
from controller.services.networks import Networks
from controller.store.port import Compare, Delete, Put
from overlayd.ipam.blocks import free_block
from overlayd.model import ids
from overlayd.model.address import Family, IpNetwork
from overlayd.model.block import Block
from overlayd.model.cluster import RecordKey
from overlayd.model.errors import Exhausted, InUse, InvalidValue, OverlayError
from overlayd.model.ids import HostId, NetworkName
from overlayd.model.network import Network, NetworkState


class Blocks:
    """The blocks of the cluster."""

    def __init__(self, mirror: Mirror, journal: Journal, networks: Networks, hosts: Hosts) -> None:
        self._mirror = mirror
        self._journal = journal
        self._networks = networks
        self._hosts = hosts

    def select(self, network: NetworkName | None, host: HostId | None) -> list[Block]:
        """Return the blocks of a network, of a host, of a host in a network, or all."""
        intent = self._mirror.intent
        if host is not None:
            return [block for block in intent.blocks_of(host) if network in (None, block.network)]
        return list(intent.blocks_in(network)) if network is not None else intent.blocks()

    async def acquire(
        self, network: NetworkName, host: HostId, held: Collection[IpNetwork], family: Family = Family.V4
    ) -> Written[Block]:
        """Return a block of a family that the host owns beside those it says it holds, a new one if need be.

        Asked again after a lost answer, it returns the block of that answer. Raises `NotFound`, `Exhausted`, or `InUse`
        when the network is being deleted.
        """

        def draft() -> Draft[Block]:
            found, owner = self._networks.get(network), self._hosts.get(host)
            if found.state is NetworkState.DELETING:
                raise InUse(f"network {network} is being deleted", field="network")
            owned = [block for block in self.select(network, host) if block.family is family]
            unheld = [block for block in owned if block.cidr not in held]
            if unheld:
                return Draft(min(unheld, key=lambda block: int(block.cidr.network_address)))
            block = Block(network, self._free(found, family), owner.id)
            key, holdings = keys.of(block), keys.holdings(host)
            compared = (key, holdings, keys.network(network), keys.host(host))
            return Draft(
                block,
                tuple(self._journal.unchanged(each) for each in compared),
                (self._mirror.put(block), Put(holdings, keys.EMPTY)),
            )

        return await self._journal.write(draft)

    async def release(self, network: NetworkName, cidr: IpNetwork, host: HostId) -> Written[None]:
        """Give back a block. The last block of a DELETING network takes the network with it.

        A block that does not exist is given back already. Raises `NotFound`, `InvalidValue` when another host owns the
        block, `InUse` while endpoints of the host have addresses in it.
        """

        def draft() -> Draft[None]:
            block = self._mirror.intent.find(RecordKey(Block, (network, cidr)))
            if not isinstance(block, Block):
                return Draft(None)
            found = self._networks.get(network)
            self._refuse_release(block, host)
            guards, removed = self._network_of_released(found, block)
            holdings = keys.holdings(host)
            return Draft(
                None,
                (self._journal.unchanged(keys.of(block)), self._journal.unchanged(holdings), *guards),
                (Delete(keys.of(block)), Put(holdings, keys.EMPTY), *removed),
            )

        self._hosts.get(host)
        return await self._journal.write(draft)

    def _free(self, network: Network, family: Family) -> IpNetwork:
        taken = self._taken(network)
        exhausted = InvalidValue(f"network {network.name} has no IPv{family} range", field="family")
        error: OverlayError = exhausted
        for pool in network.pools:
            if pool.family is family:
                try:
                    return free_block(pool, taken)
                except Exhausted as full:
                    error = full
        raise error

    def _taken(self, network: Network) -> list[IpNetwork]:
        owned = [block.cidr for block in self._mirror.intent.blocks_in(network.name)]
        return owned + [_parsed(cidr) for cidr in self._journal.underway(keys.blocks_of(network.name))]

    def _refuse_release(self, block: Block, host: HostId) -> None:
        if block.host != host:
            raise InvalidValue(f"block {block.cidr} of {block.network} belongs to host {block.host}", field="host")
        for endpoint in self._mirror.intent.endpoints_of(host):
            used = [address for address in endpoint.addresses if address in block.cidr]
            if endpoint.network == block.network and used:
                container = ids.quoted(endpoint.container_id)
                raise InUse(f"{used[0]} of block {block.cidr} belongs to container {container}")

    def _network_of_released(self, network: Network, block: Block) -> tuple[tuple[Compare, ...], tuple[Delete, ...]]:
        """Return what must hold of the network for the block to go, and what of it goes too."""
        unchanged = self._journal.unchanged(keys.network(network.name))
        if network.state is NetworkState.ACTIVE:
            return (unchanged,), ()
        other = next((other for other in self._mirror.intent.blocks_in(network.name) if other != block), None)
        if other is None:  # and none can come: nobody acquires a block of a DELETING network
            return (unchanged,), (Delete(keys.network(network.name)), Delete(keys.vni(network.vni)))
        # Of two hosts that release the last two blocks at once, one finds its witness gone and looks again.
        return (unchanged, self._journal.unchanged(keys.of(other))), ()


@lru_cache(maxsize=1024)
def _parsed(cidr: str) -> IpNetwork:
    """Return a range; the same few are asked for again and again while many hosts join at once."""
    return ip_network(cidr)
