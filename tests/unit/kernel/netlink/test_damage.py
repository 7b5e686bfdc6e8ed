"""Netlink data that no kernel should send: an error at once, and never a loop."""

import errno
import struct

import pytest

from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.netlink.decoding import link_reading, neighbour_reading
from overlayd.kernel.netlink.decoding.readings import Readings
from overlayd.kernel.netlink.framing import HEADER, attributes, messages
from overlayd.kernel.port import KernelError

GOOD = struct.pack("=HH4s", 8, 3, b"eth0")


@pytest.mark.parametrize(
    "damage",
    [struct.pack("=HH", 0, 3), struct.pack("=HH", 3, 3), struct.pack("=HH", 400, 3), b"\x04\x00", b"\x01"],
    ids=["of length 0", "shorter than its header", "longer than the message", "cut in its header", "of one byte"],
)
def test_a_damaged_attribute_is_an_error(damage: bytes) -> None:
    with pytest.raises(KernelError) as refused:
        attributes(GOOD + damage)
    assert refused.value.errno == errno.EBADMSG
    with pytest.raises(KernelError):
        link_reading.device(bytes(16) + GOOD + damage)


def test_attributes_are_read_over_their_padding() -> None:
    assert attributes(bytes(12) + struct.pack("=HHB3x", 5, 9, 7) + GOOD + struct.pack("=HHB", 5, 4, 1), 12) == {
        9: b"\7",
        3: b"eth0",
        4: b"\1",
    }
    assert attributes(b"") == {}


@pytest.mark.parametrize("length", [0, HEADER.size - 1, HEADER.size + 100])
def test_a_damaged_message_is_an_error(length: int) -> None:
    good = HEADER.pack(HEADER.size, 24, 0, 1, 0)
    with pytest.raises(KernelError) as refused:
        list(messages(good + HEADER.pack(length, 24, 0, 2, 0)))
    assert refused.value.errno == errno.EBADMSG
    with pytest.raises(KernelError):
        list(messages(good + b"\0\0\0"))


def test_a_damaged_table_is_an_error() -> None:
    with pytest.raises(KernelError) as refused:
        Readings(NamespaceRef("/run/netns/ov-blue")).items(
            neighbour_reading.neighbour, [bytes(12) + struct.pack("=HH", 0, 3) + bytes(20)], {}
        )
    assert refused.value.errno == errno.EBADMSG
