"""The owner of a MAC in a network: one endpoint, or one reservation and the endpoint that holds it.

The records say who has it. A key for each MAC in a network is compared and written by every transaction that gives the
MAC to a record, so that of two at once one meets a conflict, looks again and is refused. A record that an earlier
release stored has no such key: the record itself excludes others, and its next write makes the key.
"""

from collections.abc import Container

from controller.journal.journal import Journal
from controller.journal.transaction_part import TransactionPart
from controller.state import keys
from controller.state.mirror import Mirror
from controller.store.port import DeleteKey, PutKey
from overlayd.model.cluster import RecordKey
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.errors import AlreadyExists, InvalidValue
from overlayd.model.ids import OWN_MACS, MacAddress, NetworkName, is_own_mac
from overlayd.model.reservation import Holder, Reservation


class MacClaims:
    """The MACs of all networks."""

    def __init__(self, mirror: Mirror, journal: Journal) -> None:
        self._mirror = mirror
        self._journal = journal

    def check(self, endpoint: Endpoint, leaving: Container[EndpointKey], field: str) -> None:
        """Raise `AlreadyExists` when another one has the MAC of an endpoint, or `InvalidValue` for one of ours.

        The older claim stands. Those that are `leaving` give their MACs up in the same request.
        """
        if is_own_mac(endpoint.mac):
            raise InvalidValue(f"{endpoint.mac}: {OWN_MACS}* is for the devices of overlayd itself", field=field)
        for key in self._mirror.intent.holders_of(endpoint.network, endpoint.mac):
            match self._mirror.intent.find(key):
                case Reservation() as reservation if reservation.holder != Holder.of(endpoint.key):
                    raise _taken_by_reservation(reservation, field)
                case Endpoint() as other if other.key != endpoint.key and other.key not in leaving:
                    if not self._is_older(endpoint, other):
                        raise _taken_by_endpoint(other, field)
                case _:
                    pass

    def check_reservation(self, network: NetworkName, mac: MacAddress, wanted: Reservation | None) -> None:
        """Raise `AlreadyExists` when another one than a reservation has a MAC; `wanted` None: a new reservation."""
        for key in self._mirror.intent.holders_of(network, mac):
            match self._mirror.intent.find(key):
                case Reservation() as reservation if wanted is None or reservation.key != wanted.key:
                    raise _taken_by_reservation(reservation, "mac")
                case Endpoint() as endpoint if wanted is None or wanted.holder != Holder.of(endpoint.key):
                    raise _taken_by_endpoint(endpoint, "mac")
                case _:
                    pass

    def claim(self, record: Endpoint | Reservation) -> TransactionPart:
        """Return the write that gives a record its MAC; an empty one when it has it already, or has none."""
        if record.mac is None:
            return TransactionPart()
        key, own = keys.mac(record.network, record.mac), RecordKey.of(record)
        if own in self._mirror.intent.holders_of(record.network, record.mac) and self._mirror.mod_revision(key):
            return TransactionPart()
        return TransactionPart((self._journal.unchanged(key),), (PutKey(key, keys.mac_claim(own)),))

    def release(self, record: Endpoint | Reservation) -> TransactionPart:
        """Return the write that deletes the key of a MAC that a record gives up, unless another record has it too."""
        if record.mac is None:
            return TransactionPart()
        key = keys.mac(record.network, record.mac)
        is_alone = self._mirror.intent.holders_of(record.network, record.mac) == (RecordKey.of(record),)
        if not is_alone or not self._mirror.mod_revision(key):
            return TransactionPart()
        return TransactionPart((self._journal.unchanged(key),), (DeleteKey(key),))

    def _is_older(self, endpoint: Endpoint, other: Endpoint) -> bool:
        """Return whether an endpoint has had its MAC for longer than another one: an earlier release allowed both."""
        if RecordKey.of(endpoint) not in self._mirror.intent.holders_of(endpoint.network, endpoint.mac):
            return False
        mine, theirs = keys.of(endpoint), keys.of(other)
        return (self._mirror.mod_revision(mine), mine) < (self._mirror.mod_revision(theirs), theirs)


def _taken_by_reservation(reservation: Reservation, field: str) -> AlreadyExists:
    return AlreadyExists(
        f"{reservation.mac} is the MAC of reservation {reservation.name} of network {reservation.network}", field=field
    )


def _taken_by_endpoint(endpoint: Endpoint, field: str) -> AlreadyExists:
    return AlreadyExists(
        f"{endpoint.mac} is the MAC of container {endpoint.container_id} on host {endpoint.host} in network"
        f" {endpoint.network}",
        field=field,
    )
