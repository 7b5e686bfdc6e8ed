"""Removes everything of a host that is being forgotten, step by step, at any controller.

Such a host gets nothing new, so each step leaves less, and any controller can go on where another one stopped.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import structlog

from controller.clock import Clock
from controller.journal.actor import BY_CONTROLLER, Requester
from controller.journal.journal import TransactionDraft, Written
from controller.journal.transaction_part import TransactionPart
from controller.rules.wiring import RuleParts
from controller.services.tokens import Tokens
from controller.state import keys
from controller.store.port import DeleteKey, LeaseId, PutKey
from overlayd.model.errors import OverlayError
from overlayd.model.host import Host, HostState
from overlayd.model.ids import HostId

_STEP = 25
"""How many endpoints or claims one transaction takes away: with all that goes along, less than a store takes."""

_INTERVAL = 10.0
"""Seconds between two looks for hosts whose departure was interrupted."""

_log = structlog.get_logger()


class Departures:
    """Completes the departure of hosts that are FORGETTING."""

    def __init__(self, rules: RuleParts, tokens: Tokens) -> None:
        self._mirror = rules.mirror
        self._journal = rules.journal
        self._quarantine = rules.quarantine
        self._withheld = rules.withheld
        self._removals = rules.removals
        self._tokens = tokens

    async def run(self, clock: Clock) -> None:
        """Complete the departures that were interrupted, until cancelled."""
        while True:
            await clock.sleep(_INTERVAL)
            hosts = self._mirror.intent.hosts.values()
            for leaving in [host for host in hosts if host.state is HostState.FORGETTING]:
                try:
                    await self.complete(BY_CONTROLLER, leaving.id)
                except OverlayError as error:
                    _log.warning("host not forgotten yet", host=leaving.id, reason=str(error))

    def has_remains(self, host_id: HostId) -> bool:
        """Return whether the store does not know the host, but withholds something for it."""
        return host_id not in self._mirror.intent.hosts and self._withheld.is_any_for(host_id)

    async def complete(self, by: Requester, host_id: HostId) -> Written[None]:
        """Remove everything of a FORGETTING host, and at last the host itself; does nothing to other hosts."""
        if self._leaving(host_id):
            await self._tokens.revoke_credential(by, host_id)
        while (await self._journal.write(by, lambda: self._without_endpoints(host_id))).result:
            pass
        while (await self._journal.write(by, lambda: self._without_claims(host_id))).result:
            pass
        await self._withheld.let_go_of(by, host_id)
        while (await self._quarantine.write(by, lambda lease: self._without_block(host_id, lease))).result:
            pass
        return await self._quarantine.write(by, lambda lease: self._without_host(host_id, lease))

    def _without_endpoints(self, host_id: HostId) -> TransactionDraft[bool]:
        endpoints = islice(self._mirror.intent.endpoints_of(host_id), _STEP)
        return self._step(host_id, [self._removals.endpoint(endpoint.key) for endpoint in endpoints])

    def _without_claims(self, host_id: HostId) -> TransactionDraft[bool]:
        claimed = self._mirror.intent.held_on(host_id)
        released = [(keys.of(each), self._mirror.put(replace(each, holder=None))) for each in islice(claimed, _STEP)]
        return self._step(host_id, [TransactionPart((self._journal.unchanged(key),), (put,)) for key, put in released])

    def _without_block(self, host_id: HostId, lease: LeaseId) -> TransactionDraft[bool]:
        block = next(iter(self._mirror.intent.blocks_of(host_id)), None)
        if block is None:
            return TransactionDraft(result=False)
        network = self._mirror.intent.networks[block.network]
        return self._step(host_id, [self._removals.block(network, block, lease)])

    def _without_host(self, host_id: HostId, lease: LeaseId) -> TransactionDraft[None]:
        host = self._leaving(host_id)
        if host is None:
            return TransactionDraft(None)
        key, holdings, claim = keys.host(host_id), keys.holdings(host_id), keys.claim(host_id)
        vtep, claimed = keys.vtep(host.address), self._mirror.occupancy.vteps.get(host.address)
        # Another host may have the address since this one gave it up.
        is_own = claimed is None or claimed.holder == host_id
        return TransactionDraft(
            None,
            tuple(self._journal.unchanged(each) for each in (key, holdings, vtep)),
            (
                DeleteKey(key),
                DeleteKey(holdings),
                DeleteKey(keys.instance(host_id)),
                DeleteKey(keys.statement(host_id)),
                PutKey(keys.number(host.number), claim, lease),
                *((PutKey(vtep, claim, lease),) if is_own else ()),
            ),
        )

    def _step(self, host_id: HostId, removals: Sequence[TransactionPart]) -> TransactionDraft[bool]:
        """Return the draft of some removals; its result is whether there were any."""
        if not removals or not self._leaving(host_id):
            return TransactionDraft(result=False)
        still_leaving = TransactionPart((self._journal.unchanged(keys.host(host_id)),))
        return TransactionDraft.of(self._removals.guarded(host_id, (still_leaving, *removals)), result=True)

    def _leaving(self, host_id: HostId) -> Host | None:
        host = self._mirror.intent.hosts.get(host_id)
        return host if host and host.state is HostState.FORGETTING else None
