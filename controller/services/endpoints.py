"""Endpoints: what the hosts attached, as they publish it."""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from controller.journal.actor import Requester
from controller.journal.journal import TransactionDraft, Written
from controller.journal.transaction_part import TransactionPart
from controller.rules import amendments
from controller.rules.wiring import RuleParts
from controller.services.hosts import Hosts
from controller.state import keys
from controller.store.port import Compare, DeleteKey, PutKey, Unmodified
from overlayd.model import ids
from overlayd.model.address import IpAddress
from overlayd.model.block import Block
from overlayd.model.cluster import RecordKey
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.errors import AlreadyExists, InUse, InvalidValue, NotFound, OverlayError, Unavailable
from overlayd.model.host import HostState
from overlayd.model.ids import HostId, NetworkName

T = TypeVar("T")

_LOOK = 1000
"""How many items one step looks at, at most: looking at them holds up the controller's other work."""

_ROOM = 110
"""How many compares, and how many operations, a step may have; a store takes 120, and some are for its guards."""

_PASSES = 16
"""How often a set is gone through until nothing is left to write: another controller may write the same host's."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An endpoint that is not published, and why."""

    endpoint: EndpointKey
    error: OverlayError


@dataclass(slots=True)
class _Request:
    """What a host wants published, and what was refused of it so far.

    `holders` are the endpoints of the host, stored or wanted, that have each address, and `leaving` those of them that
    are to have another MAC.
    """

    host: HostId
    fields: dict[EndpointKey, str]
    wanted: dict[EndpointKey, Endpoint]
    refused: dict[EndpointKey, OverlayError] = field(default_factory=dict)
    holders: dict[tuple[NetworkName, IpAddress], EndpointKey] = field(default_factory=dict)
    leaving: frozenset[EndpointKey] = frozenset()


@dataclass(frozen=True, slots=True)
class _Pass:
    """How many steps the changes of some items took, and whether one of them had something to write."""

    steps: int
    has_written: bool


class Endpoints:
    """The endpoints of the cluster. A host changes its own ones only."""

    def __init__(self, rules: RuleParts, hosts: Hosts) -> None:
        self._mirror = rules.mirror
        self._journal = rules.journal
        self._removals = rules.removals
        self._macs = rules.macs
        self._hosts = hosts

    def select(self, network: NetworkName | None, host: HostId | None) -> list[Endpoint]:
        """Return the endpoints in a network, of a host, of a host in a network, or all."""
        intent = self._mirror.intent
        if host is not None:
            return [endpoint for endpoint in intent.endpoints_of(host) if network in (None, endpoint.network)]
        return list(intent.endpoints_in(network)) if network is not None else intent.endpoints()

    async def publish(
        self, by: Requester, host: HostId, puts: Sequence[Endpoint], deletes: Collection[EndpointKey]
    ) -> Written[tuple[Refusal, ...]]:
        """Add, replace and remove endpoints of a host; one that is not the host's is removed already.

        Removals come first. An endpoint that cannot be is refused by itself, and what was known under its name is
        withdrawn: of a network that does not exist (`NotFound`), with an address in no block of the host and in no
        reservation that it holds (`InvalidValue`), or with an address or a MAC that another one has (`AlreadyExists`).

        Raises `NotFound` for an unknown host, `InUse` for one that is being forgotten, and `InvalidValue` when the
        request contradicts itself (``puts[3].host`` is another one, ``puts[3]`` is there twice): then nothing has
        changed.
        """
        for index, endpoint in enumerate(puts):
            if endpoint.key in deletes:
                raise InvalidValue("names an endpoint that the request has twice", field=f"puts[{index}]")
        return await self._converge(by, _request(host, "puts", puts), lambda: deletes)

    async def replace(self, by: Requester, host: HostId, endpoints: Sequence[Endpoint]) -> Written[tuple[Refusal, ...]]:
        """Make these the only endpoints of a host; otherwise as `publish`."""
        request = _request(host, "endpoints", endpoints)

        def deletes() -> list[EndpointKey]:
            return [found.key for found in self._mirror.intent.endpoints_of(host) if found.key not in request.wanted]

        return await self._converge(by, request, deletes)

    async def _converge(
        self, by: Requester, request: _Request, deletes: Callable[[], Collection[EndpointKey]]
    ) -> Written[tuple[Refusal, ...]]:
        """Write in steps what the mirror does not show yet, until the whole request is applied at one revision.

        That is so after a pass that had nothing to write. It is also so after a pass of a single step that refused
        nothing, if no endpoint is left to remove: its transaction compared the keys that guard the host's endpoints.
        """
        # Another controller may have given the host a block, or taken its endpoints, and this one not heard of it yet.
        await self._mirror.verify()
        self._hosts.get(request.host)
        for _ in range(_PASSES):
            first = await self._in_steps(by, request.host, deletes(), partial(self._without, request.host))
            second = await self._in_steps(by, request.host, self._puts(request), partial(self._with, request))
            has_written = first.result.has_written or second.result.has_written
            is_whole = first.result.steps + second.result.steps == 1 and not request.refused
            if not has_written or (is_whole and not self._owned(request.host, deletes())):
                refused = tuple(Refusal(key, error) for key, error in request.refused.items())
                return Written(refused, max(first.revision, second.revision))
        raise Unavailable("another controller is changing the same endpoints; try again")

    def _puts(self, request: _Request) -> list[Endpoint]:
        """Return the endpoints to store; those in the store already come first, as their claims are the older ones."""
        stored = {found.key: found for found in self._mirror.intent.endpoints_of(request.host)}
        puts = sorted(request.wanted.values(), key=lambda endpoint: stored.get(endpoint.key) != endpoint)
        request.leaving = frozenset(
            endpoint.key for endpoint in puts if (found := stored.get(endpoint.key)) and found.mac != endpoint.mac
        )
        request.holders = {}
        for endpoint in (*(found for key, found in stored.items() if key not in request.wanted), *puts):
            for address in endpoint.addresses:
                request.holders.setdefault((endpoint.network, address), endpoint.key)
        return puts

    async def _in_steps(
        self, by: Requester, host: HostId, items: Collection[T], change: Callable[[T], TransactionPart]
    ) -> Written[_Pass]:
        """Write the changes for these items, as many of them at once as have room."""
        left, steps, has_written = deque(items), 0, False
        revision = self._mirror.intent_revision
        while left:
            written = await self._journal.write(by, partial(self._step, host, left, change))
            done, wrote = written.result
            steps += 1
            has_written |= wrote
            revision = written.revision
            for _ in range(done):
                left.popleft()
        return Written(_Pass(steps, has_written), revision)

    def _step(
        self, host: HostId, items: Collection[T], change: Callable[[T], TransactionPart]
    ) -> TransactionDraft[tuple[int, bool]]:
        """Return the draft for the first of these items; its result tells for how many, and whether it writes."""
        if self._hosts.get(host).state is HostState.FORGETTING:
            raise InUse(f"host {host} is being forgotten", field="host")
        holdings = keys.holdings(host)
        guards = tuple(self._journal.unchanged(key) for key in (holdings, keys.host(host)))
        compares: dict[Compare | Unmodified, None] = dict.fromkeys(guards)
        ops: dict[str, PutKey | DeleteKey] = {}
        done = 0
        for item in items:
            made = change(item)
            if done == _LOOK or max(len(compares) + len(made.compares), len(ops) + len(made.ops)) > _ROOM:
                break
            compares.update(dict.fromkeys(made.compares))
            # A MAC that one endpoint gives up and another one gets stays a key.
            ops |= {op.key: op for op in made.ops if isinstance(op, PutKey) or not isinstance(ops.get(op.key), PutKey)}
            done += 1
        if not ops:
            return TransactionDraft((done, False))
        return TransactionDraft((done, True), tuple(compares), (PutKey(holdings, keys.EMPTY), *ops.values()))

    def _without(self, host: HostId, key: EndpointKey) -> TransactionPart:
        """Return the removal of an endpoint, if it is there and the host's."""
        return self._removals.endpoint(key) if self._owned(host, [key]) else TransactionPart()

    def _owned(self, host: HostId, candidates: Collection[EndpointKey]) -> bool:
        """Return whether one of these endpoints is there and the host's."""
        return any(found.host == host for key in candidates if (found := self._find(key)))

    def _with(self, request: _Request, endpoint: Endpoint) -> TransactionPart:
        """Return the write of an endpoint, or the withdrawal of one that is refused; nothing when it is done."""
        request.refused.pop(endpoint.key, None)
        stored = self._find(endpoint.key)
        try:
            self._check(request, endpoint)
        except OverlayError as error:
            request.refused[endpoint.key] = error
            return self._removals.withdrawn(endpoint.key) if stored else TransactionPart()
        return self._put(endpoint, stored) if stored != endpoint else TransactionPart()

    def _put(self, endpoint: Endpoint, stored: Endpoint | None) -> TransactionPart:
        """Return the write of an endpoint; it conflicts if the endpoint or a reservation of an address has changed."""
        reservations = [
            reservation
            for address in endpoint.addresses
            if (reservation := self._mirror.intent.reservation_at(endpoint.network, address))
        ]
        compared = (keys.of(endpoint), *(keys.of(reservation) for reservation in reservations))
        compares = tuple(self._journal.unchanged(key) for key in compared)
        written = TransactionPart(compares, (self._mirror.put(endpoint),)) + self._macs.claim(endpoint)
        return written if stored is None or stored.mac == endpoint.mac else written + self._macs.release(stored)

    def _check(self, request: _Request, endpoint: Endpoint) -> None:
        """Raise why an endpoint cannot be published."""
        place = request.fields[endpoint.key]
        network = self._mirror.intent.networks.get(endpoint.network)
        if network is None:
            raise NotFound(f"there is no network {ids.quoted(endpoint.network)}", field=f"{place}.network")
        for address in endpoint.addresses:
            self._check_address(request, endpoint, address, f"{place}.addresses")
            if not self._mirror.intent.reservation_at(network.name, address) and amendments.is_reserved(
                network, address
            ):
                raise InvalidValue(f"{address} is reserved in {network.name}", field=f"{place}.addresses")
        self._macs.check(endpoint, request.leaving, f"{place}.mac")

    def _check_address(self, request: _Request, endpoint: Endpoint, address: IpAddress, place: str) -> None:
        intent, network = self._mirror.intent, endpoint.network
        reservation = intent.reservation_at(network, address)
        if reservation and (reservation.shared or reservation not in intent.held_by(endpoint.key)):
            raise AlreadyExists(
                f"{address} is held by reservation {reservation.name} of network {network}, which the container has not"
                " claimed, or which another one has claimed since",
                field=place,
            )
        if not reservation and not self._owns(request.host, network, address):
            raise InvalidValue(
                f"{address} is in no block of network {network} that host {request.host} owns", field=place
            )
        if request.holders[network, address] != endpoint.key:
            raise AlreadyExists(f"{address} belongs to two endpoints of {network}", field=place)

    def _owns(self, host: HostId, network: NetworkName, address: IpAddress) -> bool:
        """Return whether an address is in a block of a host."""
        intent = self._mirror.intent
        unit = self._mirror.occupancy.space(network).unit(address)
        block = intent.find(RecordKey(Block, (network, unit))) if unit else None
        if isinstance(block, Block):
            return block.host == host
        # A network of the same name may have left blocks of another size.
        return any(block.network == network and address in block.cidr for block in intent.blocks_of(host))

    def _find(self, key: EndpointKey) -> Endpoint | None:
        found = self._mirror.intent.find(RecordKey(Endpoint, key))
        return found if isinstance(found, Endpoint) else None


def _request(host: HostId, name: str, endpoints: Sequence[Endpoint]) -> _Request:
    """Return the checked request of a host for these endpoints, which are field `name` of it; raise `InvalidValue`."""
    wanted: dict[EndpointKey, Endpoint] = {}
    for index, endpoint in enumerate(endpoints):
        if endpoint.host != host:
            raise InvalidValue(f"host {host} cannot publish for {endpoint.host}", field=f"{name}[{index}].host")
        if endpoint.key in wanted:
            raise InvalidValue("names an endpoint that the request has twice", field=f"{name}[{index}]")
        wanted[endpoint.key] = endpoint
    return _Request(host, {endpoint.key: f"{name}[{index}]" for index, endpoint in enumerate(endpoints)}, wanted)
