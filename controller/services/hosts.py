"""Hosts: registering and finding them."""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import TypeVar

from controller.journal.actor import Requester
from controller.journal.journal import TransactionDraft, Written
from controller.rules.free_choice import FreeChoice
from controller.rules.wiring import RuleParts
from controller.services.departures import Departures
from controller.state import keys
from controller.store.port import Compare, DeleteKey, PutKey, Unmodified
from overlayd.model import ids
from overlayd.model.address import IpAddress
from overlayd.model.errors import AlreadyExists, Exhausted, InUse, InvalidValue, NotFound, Unavailable
from overlayd.model.host import Host, HostState, check_vtep_address
from overlayd.model.ids import HOST_NUMBER_MAX, HostId, HostNumber, Revision

T = TypeVar("T")


class Hosts:
    """The hosts of the cluster."""

    def __init__(self, rules: RuleParts, departures: Departures) -> None:
        self._mirror = rules.mirror
        self._journal = rules.journal
        self._chance = rules.chance
        self._recovery = rules.recovery
        self._departures = departures

    def all(self) -> Collection[Host]:
        return self._mirror.intent.hosts.values()

    def get(self, host_id: HostId) -> Host:
        """Return a host; raise `NotFound`."""
        host = self._mirror.intent.hosts.get(host_id)
        if host is None:
            raise NotFound(f"there is no host {ids.quoted(host_id)}; it has not registered", field="host")
        return host

    def welcome(self, host_id: HostId) -> Host:
        """Return a host that may follow the feed; raise `NotFound`, or `Unavailable` when it is being forgotten."""
        host = self.get(host_id)
        _refuse_forgetting(host)
        return host

    async def register(  # noqa: PLR0913, PLR0917 - what a host says of itself
        self,
        by: Requester,
        host_id: HostId,
        name: str,
        address: IpAddress,
        instance: str,
        number: HostNumber | None = None,
    ) -> Written[Host]:
        """Make a host known, or its new name or underlay address; it keeps its number for ever.

        `number` is the one that it had, if it had one: to be its own again where the store has lost it. A host whose
        new address is another one's gives up its old one all the same, for it is not there any more: of hosts that
        exchange their addresses each can take its new one when all have announced theirs.

        Raises `InvalidValue`; `AlreadyExists` when another host has the address (field `address`), or a second host
        goes by the same id at whichever controller (field `id`); `Exhausted` when no number is left; `Unavailable`
        while a host with this id or address is being forgotten, or its address rests after that.
        """
        choice = FreeChoice(self._chance)

        def draft() -> TransactionDraft[Host]:
            found = self._registered(host_id, name, address, instance, partial(self._number, number, choice))
            return self._claiming_instance(found, host_id, instance) if found.ops else found

        try:
            written = await self._journal.write(by, draft)
            # An agent that only restarted changes nothing that hosts must know.
            await self._journal.write_unnoted(by, lambda: self._started_anew(host_id, address, instance))
        except (AlreadyExists, InUse):
            await self._journal.write_unnoted(by, lambda: self._without_former_address(host_id, address, instance))
            raise
        except Unavailable:
            known = self._mirror.intent.hosts.get(host_id)
            if known is None or known.state is HostState.FORGETTING or self._mirror.instance(host_id) != instance:
                raise
            if (known.name, known.address) != (name, address) or not self._has_its_address(known):
                raise
            # Nothing is to be changed, and without the store nothing can be: the host may open its feed.
            return Written(known, self._mirror.intent_revision)
        return written

    async def update(
        self, by: Requester, host_id: HostId, state: HostState, expected: Revision | None = None
    ) -> Written[Host]:
        """Let a host get nothing new (DRAINING), or make it an ACTIVE one again; what it has, it keeps.

        `expected` is the modification revision of the host that the caller saw. Raises `NotFound`, `Stale`,
        `InvalidValue` for FORGETTING, to which there is another way, or `InUse` when the host is being forgotten.
        """

        def draft() -> TransactionDraft[Host]:
            known, key = self.get(host_id), keys.host(host_id)
            self._journal.expect(key, expected)
            if known.state is HostState.FORGETTING:
                raise InUse(f"host {host_id} is being forgotten", field="state")
            changed = replace(known, state=state)
            if changed == known:
                return TransactionDraft(known)
            return TransactionDraft(changed, (self._journal.unchanged(key),), (self._mirror.put(changed),))

        if state is HostState.FORGETTING:
            raise InvalidValue("a host is forgotten by deleting it", field="state")
        await self._journal.reach(expected)
        return await self._journal.write(by, draft)

    async def forget(self, by: Requester, host_id: HostId, expected: Revision | None = None) -> Written[None]:
        """Release all that a host had which never comes back; its number and address go into quarantine, as blocks do.

        For a host that the store has lost, this releases what is withheld for it.

        Goes on where an earlier attempt was interrupted. Raises `NotFound`, `Stale`, or `InUse` while it is connected.
        """

        def draft() -> TransactionDraft[None]:
            if self._departures.has_remains(host_id):
                return TransactionDraft(None)
            known, key = self.get(host_id), keys.host(host_id)
            self._journal.expect(key, expected)
            if known.state is HostState.FORGETTING:
                return TransactionDraft(None)
            if self._mirror.presence(host_id):
                raise InUse(f"host {known.name} is connected; stop its agent, or drain it, before it is forgotten")
            unconnected = Unmodified(keys.presences_of(host_id), self._mirror.revision)
            forgetting = self._mirror.put(replace(known, state=HostState.FORGETTING))
            return TransactionDraft(None, (self._journal.unchanged(key), unconnected), (forgetting,))

        await self._journal.reach(expected)
        await self._journal.write(by, draft)
        return await self._departures.complete(by, host_id)

    def _registered(
        self, host_id: HostId, name: str, address: IpAddress, instance: str, number: Callable[[], HostNumber]
    ) -> TransactionDraft[Host]:
        known = self._mirror.intent.hosts.get(host_id)
        if known is None or known.address != address:
            check_vtep_address(address)
        if known is None:
            return self._first(Host(host_id, number(), name, address))
        _refuse_forgetting(known)
        if known.address != address:
            self._refuse_double(known, address, instance)
        return self._again(known, replace(known, name=name, address=address))

    def _first(self, host: Host) -> TransactionDraft[Host]:
        keep, put = self._claim_address(host)
        key, number, holdings = keys.host(host.id), keys.number(host.number), keys.holdings(host.id)
        return TransactionDraft(
            host,
            (keep, self._journal.unchanged(key), self._journal.unchanged(number), self._journal.unchanged(holdings)),
            (
                put,
                self._mirror.put(host),
                PutKey(number, keys.claim(host.id)),
                PutKey(holdings, keys.EMPTY),
            ),
        )

    def _again(self, known: Host, host: Host) -> TransactionDraft[Host]:
        is_elsewhere = host.address != known.address
        if not is_elsewhere and self._has_its_address(known):
            key = keys.host(host.id)
            return (
                TransactionDraft(host)
                if host == known
                else TransactionDraft(host, self._unchanged(key), (self._mirror.put(host),))
            )
        keep, claim = self._claim_address(host)
        former = keys.vtep(known.address)
        is_own = is_elsewhere and self._claims_its_address(known)
        return TransactionDraft(
            host,
            # No other instance may connect before this is written, at any controller.
            (
                *self._unchanged(keys.host(host.id), *((former,) if is_own else ())),
                keep,
                self._unconnected(host.id),
            ),
            (self._mirror.put(host), claim, *((DeleteKey(former),) if is_own else ())),
        )

    def _without_former_address(self, host_id: HostId, address: IpAddress, instance: str) -> TransactionDraft[None]:
        """Return the draft that gives up the address of a host's record, as the host has announced another one."""
        known = self._mirror.intent.hosts.get(host_id)
        if known is None or known.address == address or not self._has_its_address(known):
            return TransactionDraft(None)
        _refuse_forgetting(known)
        self._refuse_double(known, address, instance)
        key = keys.vtep(known.address)
        return TransactionDraft(
            None,
            (*self._unchanged(keys.host(host_id), key), self._unconnected(host_id)),
            (PutKey(key, keys.given_up(host_id)),),
        )

    def _unchanged(self, *names: str) -> tuple[Compare, ...]:
        return tuple(self._journal.unchanged(name) for name in names)

    def _unconnected(self, host_id: HostId) -> Unmodified:
        return Unmodified(keys.presences_of(host_id), self._mirror.revision)

    def _has_its_address(self, host: Host) -> bool:
        """Return whether a host still has the address of its record, and has not given it up."""
        claim = self._mirror.occupancy.vteps.get(host.address)
        return claim is None or (claim.holder == host.id and not claim.is_given_up)

    def _claims_its_address(self, host: Host) -> bool:
        """Return whether the host holds the claim on the address of its record, given up or not."""
        claim = self._mirror.occupancy.vteps.get(host.address)
        return claim is not None and claim.holder == host.id

    def _started_anew(self, host_id: HostId, address: IpAddress, instance: str) -> TransactionDraft[None]:
        host = self.get(host_id)
        if host.address != address:
            raise self._double(host, address)
        if self._mirror.instance(host_id) == instance:
            return TransactionDraft(None)
        unchanged = self._journal.unchanged(keys.host(host_id))
        return self._claiming_instance(TransactionDraft(None, (unchanged,)), host_id, instance)

    def _claiming_instance(self, draft: TransactionDraft[T], host_id: HostId, instance: str) -> TransactionDraft[T]:
        """Return a draft that also makes this the only instance that may open a feed."""
        key = keys.instance(host_id)
        claim = PutKey(key, keys.encode({"instance": instance}))
        return replace(draft, compares=(*draft.compares, self._journal.unchanged(key)), ops=(*draft.ops, claim))

    def _claim_address(self, host: Host) -> tuple[Compare, PutKey]:
        others = (other for other in self.all() if other.address == host.address and other.id != host.id)
        holder = next((other for other in others if self._has_its_address(other)), None)
        if holder:
            raise AlreadyExists(f"{host.address} is the address of host {holder.id} ({holder.name})", field="address")
        key, claim = keys.vtep(host.address), self._mirror.occupancy.vteps.get(host.address)
        if claim is not None and not claim.is_given_up:
            raise InUse(
                f"{host.address} was the address of a host that was forgotten, and is in quarantine", field="address"
            )
        return self._journal.unchanged(key), PutKey(key, keys.claim(host.id))

    def _refuse_double(self, known: Host, address: IpAddress, instance: str) -> None:
        # A host whose address changed comes with the instance that is connected, or after that one has gone.
        presence = self._mirror.presence(known.id)
        if presence and presence.instance != instance:
            raise self._double(known, address)

    @staticmethod
    def _double(known: Host, address: IpAddress) -> AlreadyExists:
        return AlreadyExists(
            f"host {known.id} is connected from {known.address}; the one at {address} needs an id of its own",
            field="id",
        )

    def _number(self, former: HostNumber | None, choice: FreeChoice) -> HostNumber:
        """Return the number of a new host: the one that it had, if that is free, else the lowest free one."""
        if former is not None and not self._journal.is_taken(keys.number(former)):
            return former
        self._recovery.refuse()
        return self._free_number(choice)

    def _free_number(self, choice: FreeChoice) -> HostNumber:
        choice.attempt()
        taken = {int(number) for number in self._journal.underway(keys.NUMBERS)}
        number = choice.among(number for number in self._mirror.occupancy.numbers if number not in taken)
        if number is None:
            raise Exhausted(f"all {HOST_NUMBER_MAX} host numbers are taken")
        return HostNumber(number)


def _refuse_forgetting(host: Host) -> None:
    if host.state is HostState.FORGETTING:
        raise Unavailable(f"host {host.id} is being forgotten; it can register again after that")
