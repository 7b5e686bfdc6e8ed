"""The format of probes between tunnel ends. Pure.

A probe is a VXLAN packet (RFC 7348 section 5) as the kernel would send it, with an inner frame of the EtherType for
local experiments (IEEE 802, 88-B5). It takes the path of the network's own packets, and the kernel of the other host
delivers it to the network's namespace as it does those.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from overlayd.model.address import Family
from overlayd.model.ids import MacAddress, Vni, packed_mac

ETHERTYPE = 0x88B5

_VXLAN = struct.Struct("!II")
_VNI_IS_VALID = 0x08 << 24
_ETHERNET = struct.Struct("!6s6sH")
_BODY = struct.Struct("!4sB8s")
_MAGIC = b"ovp1"
_OUTER = {Family.V4: 20 + 8, Family.V6: 40 + 8}
"""Bytes of the outer IP and UDP headers."""

SMALLEST = 64
"""Bytes of the small probe, which every working path lets pass."""


class ProbeKind(IntEnum):
    """Request or answer."""

    REQUEST = 0
    REPLY = 1


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe between two tunnel ends, identified by their MACs. The answer repeats the 8 bytes of `nonce`."""

    kind: ProbeKind
    nonce: bytes
    source: MacAddress
    destination: MacAddress


def encode(probe: Probe, vni: Vni, family: Family, size: int) -> bytes:
    """Return the UDP payload that makes an outer IP packet of `size` bytes, or the smallest possible one."""
    packet = b"".join(
        (
            _VXLAN.pack(_VNI_IS_VALID, vni << 8),
            _ETHERNET.pack(packed_mac(probe.destination), packed_mac(probe.source), ETHERTYPE),
            _BODY.pack(_MAGIC, probe.kind, probe.nonce),
        )
    )
    return packet.ljust(size - _OUTER[family], b"\0")


def decode(frame: bytes) -> Probe | None:
    """Return the probe in an inner frame, None when the frame contains none."""
    if len(frame) < _ETHERNET.size + _BODY.size:
        return None
    destination, source, kind = _ETHERNET.unpack_from(frame)
    magic, what, nonce = _BODY.unpack_from(frame, _ETHERNET.size)
    if kind != ETHERTYPE or magic != _MAGIC or what not in set(ProbeKind):
        return None
    return Probe(ProbeKind(what), nonce, MacAddress(source.hex(":")), MacAddress(destination.hex(":")))
