"""The reservations of this host's endpoints: claimed at an attachment, released when no endpoint needs them."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import structlog

from overlayd.agent.controllers.assignments import others_with_mac
from overlayd.agent.controllers.client import ControllerClient
from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.holdings.publication import Publication
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.runtime.backoff import Backoff
from overlayd.agent.runtime.signals import Changes
from overlayd.agent.runtime.under_way import UnderWay
from overlayd.model.address import Family, IpAddress
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.errors import InUse, InvalidValue, NotFound, OverlayError, Unavailable
from overlayd.model.ids import MacAddress, NetworkName, ReservationName, Revision
from overlayd.model.network import Network
from overlayd.model.reservation import Holder, Reservation, ReservationKey, lost_addresses, shared_addresses

_log = structlog.get_logger(__name__)

FEED_DELAY = 10.0
"""Seconds that a claim may take from the controller's answer until the feed brings it."""


class HeldReservations:
    """The reservations that endpoints of this host hold, according to the feed."""

    def __init__(
        self, client: ControllerClient, feed: ClusterFeed, records: AttachmentRecords, published: Publication
    ) -> None:
        self._client = client
        self._published = published
        self._feed = feed
        self._records = records
        self._claiming = UnderWay[EndpointKey]()
        self._given_up = Changes()
        self._collected_of: Mapping[ReservationKey, Reservation] = {}
        self._collected: dict[NetworkName, Mapping[IpAddress, Reservation]] = {}

    def get(self, network: NetworkName, name: ReservationName) -> Reservation:
        """Return a reservation of a network in which this host takes part; raise `NotFound`."""
        found = self._feed.cluster.reservations.get((network, name))
        if found is None:
            raise NotFound(f"network {network} has no reservation {name}", field="reservation")
        return found

    def at(self, network: NetworkName, address: IpAddress) -> Reservation | None:
        """Return the reservation that holds an address, None when there is none."""
        return self._reserved(network).get(address)

    def asked_for(
        self, network: Network, names: Iterable[ReservationName], addresses: Iterable[IpAddress]
    ) -> list[Reservation]:
        """Return the reservations that a request names, by name or by an address that they hold.

        Raises:
            NotFound: there is no reservation of such a name.
            InvalidValue: an address is of a family that the network does not have, is shared, or contradicts a name.
        """
        named = [self.get(network.name, name) for name in names]
        own = [reservation for reservation in named if not reservation.shared]
        for address in addresses:
            family = Family.of(address)
            if family not in network.families:
                raise InvalidValue(f"{address}: network {network.name} has no IPv{family} range", field="address")
            other = next((each for one in own for each in one.addresses if Family.of(each) is family), address)
            if other != address:
                raise InvalidValue(f"{address} is not {other}, which the reservation holds", field="address")
            reservation = self.at(network.name, address)
            if reservation and reservation.shared:
                raise InvalidValue(
                    f"{address} is shared by members of reservation {reservation.name}: ask for that by its name",
                    field="address",
                )
            if reservation and reservation not in named:
                named.append(reservation)
        return named

    def lost(self, endpoint: Endpoint) -> frozenset[IpAddress]:
        """Return the addresses of an endpoint that reservations hold which it does not hold (any more)."""
        return lost_addresses(endpoint, self._reserved(endpoint.network))

    def holder_of_mac(self, mac: MacAddress, endpoint: EndpointKey) -> str | None:
        """Return the other owner of a MAC in the network of an endpoint of this host, according to the feed, or None.

        The feed has the endpoints of switched networks, where MACs matter, and the reservations of every network.
        """
        return others_with_mac(self._feed.cluster, mac, endpoint)

    def shared(self, endpoint: Endpoint) -> frozenset[IpAddress]:
        """Return the addresses of shared reservations for which an endpoint may speak."""
        return frozenset(shared_addresses(endpoint, self._feed.cluster.reservations))

    def _reserved(self, network: NetworkName) -> Mapping[IpAddress, Reservation]:
        """Return the reservations of a network by address, collected once for each state of the cluster."""
        cluster = self._feed.cluster
        if self._collected_of is not cluster.reservations:
            self._collected_of, self._collected = cluster.reservations, {}
        if network not in self._collected:
            self._collected[network] = cluster.reserved(network)
        return self._collected[network]

    @asynccontextmanager
    async def claimed(self, reservation: Reservation, key: EndpointKey) -> AsyncIterator[Reservation]:
        """Claim a reservation for a new endpoint; yield it when the feed shows the endpoint as its holder.

        If the endpoint has no record at the end of the block, the reservation is released.

        Raises:
            NotFound: the reservation is gone.
            InUse: this host is draining or being forgotten, or another endpoint claimed the reservation a moment later.
            AlreadyExists: the endpoint holds another reservation of the same family.
            Unavailable: no controller answers, or the feed does not bring it in time.
        """
        try:
            with self._claiming.counted(key):
                holder = Holder.of(key)
                # A deletion of the endpoint's predecessor that comes after the claim would take the reservation along.
                await self._settled(key)
                revision = await self._client.claim_reservation(reservation, holder)
                yield await self._brought(reservation, holder, revision)
        finally:
            self._given_up.set()

    async def _settled(self, key: EndpointKey) -> None:
        try:
            async with asyncio.timeout(FEED_DELAY):
                await self._published.settled(key)
        except TimeoutError:
            raise Unavailable(f"no controller learned in time that {key[2]} was detached") from None

    async def _brought(self, reservation: Reservation, holder: Holder, revision: Revision) -> Reservation:
        seen = self._feed.revisions.count
        try:
            async with asyncio.timeout(FEED_DELAY):
                while True:
                    known = self._feed.cluster.reservations.get(reservation.key)
                    if known and known.holder == holder:
                        return known
                    if self._feed.cluster.revision >= revision:
                        raise InUse(f"reservation {reservation.name} was claimed by another endpoint at the same time")
                    seen = await self._feed.revisions.wait(seen)
        except TimeoutError:
            raise Unavailable(f"the feed did not bring the claim of reservation {reservation.name} in time") from None

    async def run(self, attachments: Changes) -> None:
        """Release reservations that this host holds for endpoints that it does not have, until cancelled."""
        wake = Changes(self._feed.changes, attachments, self._given_up)
        backoff = Backoff()
        while True:
            seen = wake.count
            try:
                for reservation, holder in self._unneeded():
                    await self._client.release_reservation(reservation, holder)
                backoff.succeeded()
            except OverlayError as error:
                _log.debug("reservation not released yet", reason=str(error))
                await asyncio.sleep(backoff.after(error))
                continue
            await wake.wait(seen)

    def _unneeded(self) -> list[tuple[Reservation, Holder]]:
        if not self._feed.in_sync:
            return []
        host, cluster = self._client.host, self._feed.cluster
        held = ((each, each.holder) for each in cluster.reservations.values() if each.holder)
        return [
            (each, holder)
            for each, holder in held
            if holder.host == host
            and (key := (each.network, host, holder.container_id, holder.interface)) not in self._records.attachments
            and key not in self._claiming
        ]
