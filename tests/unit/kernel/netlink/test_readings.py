"""What a dump says again is not decoded again, and whatever it says otherwise is."""

import struct
from collections.abc import Callable

import pytest

from overlayd.dataplane.items import FdbEntry, Item, NamespaceRef, network_namespace
from overlayd.kernel.netlink.decoding import neighbour_reading
from overlayd.kernel.netlink.decoding.readings import Readings
from overlayd.kernel.netlink.decoding.values import Names
from overlayd.model.ids import InterfaceName, NetworkName

NS = network_namespace(NetworkName("blue"))
NAMES = {3: InterfaceName("vx0")}
AF_BRIDGE, PERMANENT, OURS = 7, 0x80, 0x12
LLADDR, DST, TIMES, FLAGS = 2, 1, 3, 15


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(mac: int, dst: int, *, used: int, index: int = 3, more: tuple[bytes, bytes] = (b"", b"")) -> bytes:
    """An entry of a VXLAN device as the kernel tells of it, last used so long ago."""
    body = struct.pack("=BBHiHBB", AF_BRIDGE, 0, 0, index, PERMANENT, OURS, 0) + more[0]
    body += attribute(LLADDR, mac.to_bytes(6, "big")) + attribute(DST, dst.to_bytes(4, "big"))
    return body + attribute(TIMES, struct.pack("=4I", used, used, used, 0)) + more[1]


class Counting:
    """Decodes, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, ns: NamespaceRef, payload: bytes, names: Names) -> Item | None:
        self.count += 1
        return neighbour_reading.forwarding_entry(ns, payload, names)


def entries(found: frozenset[Item]) -> set[tuple[str, str]]:
    assert all(isinstance(item, FdbEntry) for item in found)
    return {(item.mac, str(item.dst)) for item in found if isinstance(item, FdbEntry)}


def test_what_is_said_again_is_not_decoded_again() -> None:
    readings, decoder = Readings(NS), Counting()
    first = readings.items(decoder, [message(mac, 1, used=5) for mac in range(1, 9)], NAMES)
    again = readings.items(decoder, [message(mac, 1, used=700) for mac in range(8, 0, -1)], NAMES)
    assert (decoder.count, len(first)) == (8, 8)
    assert again is first


CHANGES: dict[str, Callable[[], bytes]] = {
    "another destination": lambda: message(2, 9, used=5),
    "another device": lambda: message(2, 1, used=5, index=4),
    "more before the times": lambda: message(2, 9, used=5, more=(attribute(FLAGS, bytes(4)), b"")),
    "more behind the times": lambda: message(2, 9, used=5, more=(b"", attribute(FLAGS, bytes(4)))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_said_otherwise_is_seen(change: str) -> None:
    readings, names = Readings(NS), {**NAMES, 4: InterfaceName("vx1")}
    before = [message(1, 1, used=5), message(2, 1, used=5)]
    after = [message(1, 1, used=6), CHANGES[change]()]
    readings.items(neighbour_reading.forwarding_entry, before, names)
    assert readings.items(neighbour_reading.forwarding_entry, after, names) == Readings(NS).items(
        neighbour_reading.forwarding_entry, after, names
    )


def test_what_comes_and_goes_is_seen() -> None:
    readings = Readings(NS)
    one, two = message(1, 1, used=5), message(2, 1, used=5)
    assert len(readings.items(neighbour_reading.forwarding_entry, [one, two], NAMES)) == 2
    assert entries(readings.items(neighbour_reading.forwarding_entry, [two], NAMES)) == {
        ("00:00:00:00:00:02", "0.0.0.1")
    }
    assert readings.items(neighbour_reading.forwarding_entry, [], NAMES) == frozenset()
    assert entries(readings.items(neighbour_reading.forwarding_entry, [one], NAMES)) == {
        ("00:00:00:00:00:01", "0.0.0.1")
    }


def test_a_device_that_has_another_name_has_its_entries_there() -> None:
    readings, payloads = Readings(NS), [message(1, 1, used=5)]
    readings.items(neighbour_reading.forwarding_entry, payloads, NAMES)
    (found,) = readings.items(neighbour_reading.forwarding_entry, payloads, {3: InterfaceName("vx9")})
    assert isinstance(found, FdbEntry)
    assert found.dev == "vx9"
    assert readings.items(neighbour_reading.forwarding_entry, payloads, {}) == frozenset()
