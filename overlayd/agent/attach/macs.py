"""The MACs of attachments: random ones, and those that are asked for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from overlayd.agent.holdings.reservations import HeldReservations
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.model.endpoint import EndpointKey
from overlayd.model.errors import AlreadyExists
from overlayd.model.ids import MacAddress, is_own_mac


class Macs:
    """Gives each attachment a MAC that no other endpoint of its network has, as far as this host knows."""

    def __init__(self, records: AttachmentRecords, reservations: HeldReservations) -> None:
        self._records = records
        self._reservations = reservations
        self._given: dict[EndpointKey, MacAddress] = {}

    @contextmanager
    def chosen(self, key: EndpointKey, wanted: MacAddress | None) -> Iterator[MacAddress]:
        """Give an endpoint a MAC, which no other one gets until the end of the block.

        Raises `AlreadyExists` when another endpoint of its network has the MAC that is wanted.
        """
        if wanted is not None:
            self._check_free(key, wanted)
        self._given[key] = mac = wanted or _random_mac()
        try:
            yield mac
        finally:
            del self._given[key]

    def _check_free(self, key: EndpointKey, wanted: MacAddress) -> None:
        known = {each.key: each.mac for each in self._records.endpoints if not self._reservations.lost(each)}
        others = (
            f"container {other[2]} on this host"
            for other, mac in (known | self._given).items()
            if mac == wanted and other[0] == key[0] and other != key
        )
        holder = next(others, None) or self._reservations.holder_of_mac(wanted, key)
        if holder:
            raise AlreadyExists(f"{wanted} is the MAC of {holder} in network {key[0]}", field="mac")


def _random_mac() -> MacAddress:
    """Return a random, locally administered, unicast MAC (IEEE 802 U/L and I/G bits: 1 and 0)."""
    while True:
        octets = bytearray(os.urandom(6))
        octets[0] = (octets[0] & 0xFC) | 0x02
        mac = MacAddress(octets.hex(":"))
        if not is_own_mac(mac):
            return mac
