"""Probes as bytes."""

import pytest

from overlayd.dataplane.probe import SMALLEST, Probe, ProbeKind, decode, encode
from overlayd.model.address import Family
from overlayd.model.ids import MacAddress, Vni

HERE, THERE = MacAddress("02:6f:76:00:00:01"), MacAddress("02:6f:76:00:00:02")
VXLAN = 8


@pytest.mark.parametrize("kind", list(ProbeKind))
@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("size", [SMALLEST, 1500, 9000])
def test_what_was_encoded_is_decoded(kind: ProbeKind, family: Family, size: int) -> None:
    probe = Probe(kind, b"12345678", HERE, THERE)
    packet = encode(probe, Vni(7), family, size)
    assert packet[:VXLAN] == bytes.fromhex("0800000000000700")
    assert decode(packet[VXLAN:]) == probe


@pytest.mark.parametrize(("family", "headers"), [(Family.V4, 28), (Family.V6, 48)])
def test_the_outer_packet_has_the_size(family: Family, headers: int) -> None:
    assert len(encode(Probe(ProbeKind.REQUEST, b"12345678", HERE, THERE), Vni(7), family, 1500)) + headers == 1500


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(14),
        bytes(60),
        bytes.fromhex("026f76000002026f7600000188b5") + b"ovp1\x02" + bytes(8),
        bytes.fromhex("026f76000002026f760000010800") + b"ovp1\x00" + bytes(8),
        bytes.fromhex("026f76000002026f7600000188b5") + b"ovp1\x00" + bytes(7),
    ],
    ids=["empty", "header only", "zeros", "unknown kind", "another protocol", "cut short"],
)
def test_what_is_no_probe_is_none(frame: bytes) -> None:
    assert decode(frame) is None


def test_a_probe_is_padded_with_zeros() -> None:
    probe = Probe(ProbeKind.REQUEST, b"12345678", HERE, THERE)
    packet = encode(probe, Vni(7), Family.V4, 1500)
    assert not any(packet[VXLAN + 14 + 5 + 8 :])
