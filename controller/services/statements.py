"""Statements of hosts about what they use: it becomes theirs, or is withheld for them, before others can get it.

A host speaks when the store has another lineage than the one that it knew. What it uses of a network that the store
still has becomes its own again. Of one that the store has lost, VNI and addresses are withheld: nothing is made on the
word of a host alone, but a network that is made again is as it was.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from ipaddress import ip_network

import structlog

from controller.clock import Clock
from controller.journal.actor import BY_CONTROLLER, Requester
from controller.journal.journal import TransactionDraft
from controller.rules.wiring import RuleParts
from controller.services.reservations import Reservations
from controller.state import keys
from controller.state.address_space import AddressSpace, Withholding
from controller.store.port import Compare, DeleteKey, LeaseId, PutKey
from overlayd.model.address import IpNetwork, overlap
from overlayd.model.block import Block
from overlayd.model.cluster import RecordKey
from overlayd.model.errors import NotFound, OverlayError
from overlayd.model.host import HostState
from overlayd.model.ids import HostId, NetworkName, Vni
from overlayd.model.lineage import Lineage, Statement
from overlayd.model.network import Network

_INTERVAL = 1.0
"""Seconds between two looks whether what is withheld for hosts can be theirs by now."""

_STEP = 30
"""How many endpoints one transaction takes away."""

_log = structlog.get_logger()


class Statements:
    """Applies the statements of hosts."""

    def __init__(self, rules: RuleParts, reservations: Reservations) -> None:
        self._mirror = rules.mirror
        self._journal = rules.journal
        self._quarantine = rules.quarantine
        self._withheld = rules.withheld
        self._removals = rules.removals
        self._reservations = reservations

    async def take(self, by: Requester, host: HostId, said: Statement) -> list[str]:
        """Apply a host's statement; return what cannot be the host's, one sentence each.

        A statement from a host of another cluster is ignored. Repeating a statement is harmless. Raises `NotFound` when
        the host has not registered, `Unavailable`.
        """
        record = self._mirror.lineage
        if host not in self._mirror.intent.hosts:
            raise NotFound(f"there is no host {host}; it has not registered", field="host")
        if record is None:
            return []
        disputes: list[str] = []
        is_of_this = said.knew.cluster == record.lineage.cluster if said.knew else not record.settled
        if is_of_this:
            is_newer = said.knew == record.parent and said.revision > record.parent_revision
            if is_newer:
                await self._drop_others(by, host, said)
            silent = (each for each in said.blocks if self._is_silent(each.host, record.lineage, is_newer=is_newer))
            disputes += [text async for text in self._claimed(by, host, said, list(silent))]
            disputes += [text async for text in self._reserved(by, said)]
        elif said.blocks:
            _log.warning("a host knows another cluster; what it had there means nothing here", host=host)
        await self._disclaim(by, host, said if is_of_this else Statement(None, said.revision))
        for text in disputes:
            _log.error("two lay claim to one thing since the store was restored", host=host, problem=text)
        spoken = PutKey(keys.statement(host), keys.encode({"lineage": str(record.lineage)}))
        if self._mirror.statements.get(host) != str(record.lineage):
            await self._journal.write_unnoted(by, lambda: TransactionDraft(None, (), (spoken,)))
        return disputes

    async def run(self, clock: Clock) -> None:
        """Give hosts what is withheld for them as soon as possible, until cancelled."""
        while True:
            await clock.sleep(_INTERVAL)
            for name, unit, claimant in self._mirror.occupancy.claimed:
                if self._fits(name, unit, claimant.host):
                    try:
                        await self._claim(BY_CONTROLLER, claimant.host, name, unit, claimant.vni)
                    except OverlayError as error:
                        _log.warning("a host has not got back yet what it uses", block=str(unit), reason=str(error))

    def _is_silent(self, host: HostId, lineage: Lineage, *, is_newer: bool) -> bool:
        """Return whether what others know of a host counts: it cannot speak, or has not yet, and they know more."""
        if host not in self._mirror.intent.hosts:
            return True
        return is_newer and self._mirror.statements.get(host) != str(lineage)

    async def _claimed(
        self, by: Requester, host: HostId, said: Statement, silent: Sequence[Block]
    ) -> AsyncIterator[str]:
        mine = [(block.network, block.cidr, host) for block in said.blocks if block.host == host]
        mine += [(name, ip_network(address), host) for name, address in self._outside(said)]
        theirs = [(each.network, each.cidr, each.host) for each in silent if each.host != host]
        for name, unit, owner in (*mine, *theirs):
            vni = said.vni(name)
            if vni is not None and (dispute := await self._claim(by, owner, name, unit, vni)):
                yield dispute

    def _outside(self, said: Statement) -> Iterator[tuple[NetworkName, str]]:
        """Yield the addresses in use that are in no block, and in no reservation of a network that there is."""
        for name, address in said.addresses:
            yield name, str(address)
        for reservation in said.reservations:
            if reservation.network not in self._mirror.intent.networks:
                for address in reservation.addresses:
                    yield reservation.network, str(address)

    async def _reserved(self, by: Requester, said: Statement) -> AsyncIterator[str]:
        for reservation in said.reservations:
            if reservation.network in self._mirror.intent.networks:
                try:
                    await self._reservations.restore(by, reservation)
                except OverlayError as error:
                    yield f"reservation {reservation.name} of network {reservation.network}: {error}"

    async def _claim(self, by: Requester, owner: HostId, name: NetworkName, unit: IpNetwork, vni: Vni) -> str | None:
        """Make a unit the block of a host, or withhold it for the host; return why neither can be."""
        return (await self._journal.write(by, lambda: self._draft(owner, name, unit, vni))).result

    def _draft(self, owner: HostId, name: NetworkName, unit: IpNetwork, vni: Vni) -> TransactionDraft[str | None]:
        space = self._mirror.occupancy.space(name)
        overlapping = next(self._overlapping(name, unit), None)
        if overlapping and overlapping.host == owner:
            return TransactionDraft(None)
        if dispute := _dispute(name, unit, owner, overlapping, space):
            return TransactionDraft(dispute)
        claimant = space.claimants.get(unit)
        key = keys.withheld(name, unit)
        compares = [self._journal.unchanged(each) for each in (keys.block(name, unit), key, keys.network(name))]
        if self._fits(name, unit, owner):
            holdings = keys.holdings(owner)
            compares += [self._journal.unchanged(each) for each in (keys.host(owner), holdings)]
            freed = (DeleteKey(key),) if self._mirror.mod_revision(key) else ()
            ops = (self._mirror.put(Block(name, unit, owner)), PutKey(holdings, keys.EMPTY), *freed)
            return TransactionDraft(None, tuple(compares), ops)
        if claimant:
            return TransactionDraft(None)
        withheld = PutKey(key, keys.withheld_for(owner, vni))
        claimed, dispute = self._claim_vni(name, vni)
        return TransactionDraft(
            dispute, (*compares, *(claim for claim, _ in claimed)), (withheld, *(put for _, put in claimed))
        )

    def _overlapping(self, name: NetworkName, unit: IpNetwork) -> Iterator[Block]:
        """Yield the blocks that share addresses with a unit, the very same one first."""
        intent = self._mirror.intent
        same = intent.find(RecordKey(Block, (name, unit)))
        if isinstance(same, Block):
            yield same
        yield from (block for block in intent.blocks_in(name) if overlap(block.cidr, unit))

    def _claim_vni(self, name: NetworkName, vni: Vni) -> tuple[list[tuple[Compare, PutKey]], str | None]:
        """Return the write that holds back the VNI of a network that the store has lost, or why that is impossible."""
        networks = self._mirror.intent.networks
        if name in networks:
            return [], None
        holder = next((network.name for network in networks.values() if network.vni == vni), None)
        if holder:
            return [], f"VNI {vni} is in use here for network {name}, and belongs to network {holder}"
        key = keys.vni(vni)
        return [(self._journal.unchanged(key), PutKey(key, keys.claim(name)))], None

    def _fits(self, name: NetworkName, unit: IpNetwork, owner: HostId) -> bool:
        """Return whether a unit can be a block of a host: the network has it, and the host is there to have it."""
        network, host = self._mirror.intent.networks.get(name), self._mirror.intent.hosts.get(owner)
        return host is not None and host.state is not HostState.FORGETTING and _has_unit(network, unit)

    async def _disclaim(self, by: Requester, host: HostId, said: Statement) -> None:
        """Let go of what is withheld for a host that does not use it any more."""
        used = {(block.network, block.cidr) for block in said.blocks if block.host == host}
        used |= {(name, ip_network(address)) for name, address in self._outside(said)}
        await self._withheld.let_go_of(by, host, used)

    async def _drop_others(self, by: Requester, host: HostId, said: Statement) -> None:
        """Take the blocks from a host that it had given back by the time of which it knows and the store does not."""
        kept = {block.key for block in said.blocks if block.host == host}
        for block in [each for each in self._mirror.intent.blocks_of(host) if each.key not in kept]:
            if any(name == block.network and address in block.cidr for name, address in said.addresses):
                continue
            while (await self._journal.write(by, lambda: self._without_endpoints(block))).result:  # noqa: B023 - at once
                pass
            await self._quarantine.write(by, lambda lease: self._without_block(block, lease))  # noqa: B023 - at once

    def _without_endpoints(self, block: Block) -> TransactionDraft[bool]:
        found = [
            endpoint
            for endpoint in self._mirror.intent.endpoints_of(block.host)
            if endpoint.network == block.network and any(address in block.cidr for address in endpoint.addresses)
        ][:_STEP]
        if not found:
            return TransactionDraft(result=False)
        removals = (self._removals.endpoint(endpoint.key) for endpoint in found)
        return TransactionDraft.of(self._removals.guarded(block.host, removals), result=True)

    def _without_block(self, block: Block, lease: LeaseId) -> TransactionDraft[None]:
        network = self._mirror.intent.networks.get(block.network)
        if network is None or self._mirror.intent.find(RecordKey(Block, block.key)) != block:
            return TransactionDraft(None)
        removal = self._removals.block(network, block, lease)
        return TransactionDraft.of(self._removals.guarded(block.host, [removal]), None)


def _has_unit(network: Network | None, unit: IpNetwork) -> bool:
    pool = network.pool_of(unit) if network else None
    return pool is not None and pool.block_length == unit.prefixlen


def _dispute(name: NetworkName, unit: IpNetwork, owner: HostId, block: Block | None, space: AddressSpace) -> str | None:
    """Return a sentence about another owner of a unit; None when there is none."""
    claimant = space.claimants.get(unit)
    if block:
        return f"{unit} of network {name} is in use here, and is in block {block.cidr} of host {block.host}"
    if claimant and claimant.host != owner:
        return f"{unit} of network {name} is in use here, and on host {claimant.host}"
    if space.withheld.get(unit) is Withholding.RESERVATIONS:
        return f"{unit} of network {name} is in use here, and has addresses that are reserved"
    return None
