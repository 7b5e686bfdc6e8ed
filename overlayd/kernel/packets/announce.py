"""Announces the MAC of an address to a segment: gratuitous ARP (RFC 5227 section 3), neighbour advertisements."""

import socket
import struct

from overlayd.dataplane.items import NamespaceRef
from overlayd.kernel.packets.checksum import internet_checksum
from overlayd.kernel.port import translated
from overlayd.kernel.spaces.namespaces import descriptor, entered
from overlayd.model.address import Family, IpAddress
from overlayd.model.ids import InterfaceName, MacAddress, packed_mac

_ETH_P_ARP, _ETH_P_IPV6 = 0x0806, 0x86DD
_BROADCAST = b"\xff" * 6
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_ALL_NODES = bytes.fromhex("ff02" + "00" * 13 + "01")
_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_REQUEST = 1
_IPV6 = struct.Struct("!IHBB16s16s")
_ADVERTISEMENT = struct.Struct("!BBHI16sBB6s")
"""Type, code, checksum, flags, target; then the option with the target's MAC (RFC 4861 section 4.4)."""

_ICMPV6, _NEIGHBOUR_ADVERTISEMENT, _TARGET_MAC = 58, 136, 2
_OVERRIDE = 1 << 29
_HOP_LIMIT = 255


def announcement(address: IpAddress, mac: MacAddress) -> bytes:
    """Return the frame by which stations that know the address at another MAC learn this one."""
    hardware = packed_mac(mac)
    if Family.of(address) is Family.V4:
        packet = _ARP.pack(*(1, 0x0800, 6, 4, _ARP_REQUEST), *(hardware, address.packed), *(bytes(6), address.packed))
        return _ETHERNET.pack(_BROADCAST, hardware, _ETH_P_ARP) + packet
    advertised = (address.packed, _TARGET_MAC, 1, hardware)
    bare = _ADVERTISEMENT.pack(_NEIGHBOUR_ADVERTISEMENT, 0, 0, _OVERRIDE, *advertised)
    checksum = internet_checksum(address.packed + _ALL_NODES + struct.pack("!II", len(bare), _ICMPV6) + bare)
    body = _ADVERTISEMENT.pack(_NEIGHBOUR_ADVERTISEMENT, 0, checksum, _OVERRIDE, *advertised)
    header = _IPV6.pack(6 << 28, len(body), _ICMPV6, _HOP_LIMIT, address.packed, _ALL_NODES)
    return _ETHERNET.pack(_ALL_NODES_MAC, hardware, _ETH_P_IPV6) + header + body


def send(ns: NamespaceRef, dev: InterfaceName, frames: list[bytes]) -> None:
    """Send frames out of a device; raise `KernelError` when they cannot be."""
    with (
        translated(f"{dev} in {ns}"),
        descriptor(ns) as fd,
        entered(fd),
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as channel,
    ):
        channel.bind((dev, 0))
        for frame in frames:
            channel.send(frame)
