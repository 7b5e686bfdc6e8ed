"""Endpoints: what the hosts attached, as they publish it."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import chain, islice

from controller.services import amendments, keys
from controller.services.hosts import Hosts
from controller.services.journal import Draft, Journal, Written
from controller.services.mirror import Mirror
from controller.services.removals import Removal, Removals
from controller.store.port import Compare, Delete, Put, Unmodified
from overlayd.model.cluster import RecordKey
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.errors import AlreadyExists, InUse, InvalidValue
from overlayd.model.host import HostState
from overlayd.model.ids import HostId, NetworkName

_STEP = 100
"""How many endpoints one step looks at."""

_ROOM = 110
"""How many compares, and how many operations, a step may have; a store takes 128, and some are for its guards."""


class Endpoints:
    """The endpoints of the cluster. A host changes its own ones only."""

    def __init__(self, mirror: Mirror, journal: Journal, hosts: Hosts) -> None:
        self._mirror = mirror
        self._journal = journal
        self._hosts = hosts
        self._removals = Removals(mirror, journal)

    def select(self, network: NetworkName | None, host: HostId | None) -> list[Endpoint]:
        """Return the endpoints in a network, of a host, of a host in a network, or all."""
        intent = self._mirror.intent
        if host is not None:
            return [endpoint for endpoint in intent.endpoints_of(host) if network in (None, endpoint.network)]
        return list(intent.endpoints_in(network)) if network is not None else intent.endpoints()

    async def publish(self, host: HostId, puts: Sequence[Endpoint], deletes: Collection[EndpointKey]) -> Written[None]:
        """Add, replace and remove endpoints of a host; one that is not the host's is removed already.

        Raises `NotFound`, `InvalidValue` (``puts[3].addresses`` lie in no block of the host and in no reservation that
        the endpoint holds), `AlreadyExists`, or `InUse` when the host is being forgotten; then nothing has changed.
        """
        return await self._converge(host, "puts", puts, lambda: deletes)

    async def replace(self, host: HostId, endpoints: Sequence[Endpoint]) -> Written[None]:
        """Make these the only endpoints of a host; raises as `publish` does."""
        kept = {endpoint.key for endpoint in endpoints}

        def deletes() -> list[EndpointKey]:
            return [found.key for found in self._mirror.intent.endpoints_of(host) if found.key not in kept]

        return await self._converge(host, "endpoints", endpoints, deletes)

    async def _converge(
        self, host: HostId, field: str, puts: Sequence[Endpoint], deletes: Callable[[], Collection[EndpointKey]]
    ) -> Written[None]:
        """Write step by step what the mirror does not show yet. Deletions come first: they free addresses."""
        fields = {endpoint.key: f"{field}[{index}]" for index, endpoint in enumerate(puts)}

        def draft() -> Draft[bool]:
            gone = (key for key in deletes() if self._is_own(host, key))
            changed = (endpoint for endpoint in puts if self._find(endpoint.key) != endpoint)
            step: list[Endpoint | EndpointKey] = list(islice(chain[Endpoint | EndpointKey](gone, changed), _STEP))
            for item in step:
                if isinstance(item, Endpoint):
                    self._check(host, item, fields[item.key])
            return self._draft(host, step)

        # Another controller may have given the host a block, or taken its endpoints, and this one not heard of it yet.
        await self._mirror.verify()
        self._hosts.get(host)
        for endpoint in puts:
            self._check(host, endpoint, fields[endpoint.key])
        self._refuse_doubles(host, field, puts, frozenset(deletes()))
        while (written := await self._journal.write(draft)).result:
            pass
        return Written(None, written.revision)

    def _draft(self, host: HostId, step: Sequence[Endpoint | EndpointKey]) -> Draft[bool]:
        """Return the draft of one step, as many of these as have room; its result tells whether there may be more."""
        if self._hosts.get(host).state is HostState.FORGETTING:
            raise InUse(f"host {host} is being forgotten", field="host")
        if not step:
            return Draft(result=False)
        holdings = keys.holdings(host)
        compares: list[Compare | Unmodified] = [self._journal.unchanged(key) for key in (holdings, keys.host(host))]
        ops: list[Put | Delete] = [Put(holdings, keys.EMPTY)]
        more = len(step) == _STEP
        for item in step:
            change = self._put(item) if isinstance(item, Endpoint) else self._removals.endpoint(item)
            if max(len(compares) + len(change.compares), len(ops) + len(change.ops)) > _ROOM:
                more = True
                break
            compares += change.compares
            ops += change.ops
        return Draft(more, tuple(compares), tuple(ops))

    def _put(self, endpoint: Endpoint) -> Removal:
        """Return the write of an endpoint, which holds while it holds the reservations of its addresses."""
        reservations = [
            reservation
            for address in endpoint.addresses
            if (reservation := self._mirror.intent.reservation_at(endpoint.network, address))
        ]
        compared = (keys.of(endpoint), *(keys.of(reservation) for reservation in reservations))
        return Removal(tuple(self._journal.unchanged(key) for key in compared), (self._mirror.put(endpoint),))

    def _check(self, host: HostId, endpoint: Endpoint, field: str) -> None:
        if endpoint.host != host:
            raise InvalidValue(f"host {host} cannot publish for {endpoint.host}", field=f"{field}.host")
        intent = self._mirror.intent
        owned = [block.cidr for block in intent.blocks_of(host) if block.network == endpoint.network]
        for address in endpoint.addresses:
            reservation = intent.reservation_at(endpoint.network, address)
            if reservation and reservation not in intent.held_by(endpoint.key):
                raise AlreadyExists(
                    f"{address} is held by reservation {reservation.name} of network {endpoint.network}, which the"
                    " container has not claimed, or which another one has claimed since",
                    field=f"{field}.addresses",
                )
            if not reservation and not any(address in cidr for cidr in owned):
                raise InvalidValue(
                    f"{address} is in no block of network {endpoint.network} that host {host} owns",
                    field=f"{field}.addresses",
                )
            if not reservation and amendments.is_reserved(intent.networks[endpoint.network], address):
                raise InvalidValue(f"{address} is reserved in {endpoint.network}", field=f"{field}.addresses")

    def _refuse_doubles(
        self, host: HostId, field: str, puts: Sequence[Endpoint], deleted: frozenset[EndpointKey]
    ) -> None:
        names = Counter(endpoint.key for endpoint in puts)
        replaced = deleted | names.keys()
        kept = [found for found in self._mirror.intent.endpoints_of(host) if found.key not in replaced]
        addresses = Counter(
            (endpoint.network, address) for endpoint in chain(kept, puts) for address in endpoint.addresses
        )
        for index, endpoint in enumerate(puts):
            if names[endpoint.key] > 1 or endpoint.key in deleted:
                raise InvalidValue("names an endpoint that stands here twice", field=f"{field}[{index}]")
            doubled = next((each for each in endpoint.addresses if addresses[endpoint.network, each] > 1), None)
            if doubled:
                raise AlreadyExists(
                    f"{doubled} belongs to two endpoints of {endpoint.network}", field=f"{field}[{index}].addresses"
                )

    def _is_own(self, host: HostId, key: EndpointKey) -> bool:
        found = self._find(key)
        return found is not None and found.host == host

    def _find(self, key: EndpointKey) -> Endpoint | None:
        found = self._mirror.intent.find(RecordKey(Endpoint, key))
        return found if isinstance(found, Endpoint) else None
