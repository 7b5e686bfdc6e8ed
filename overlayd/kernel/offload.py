"""Whether a device leaves checksums and segments to what is below it (linux/ethtool.h: ETHTOOL_GTXCSUM, _STXCSUM)."""

import ctypes
import fcntl
import socket
import struct

from overlayd.kernel.namespaces import entered
from overlayd.kernel.port import translated
from overlayd.model.ids import InterfaceName

_SIOCETHTOOL = 0x8946
_GET, _SET = 0x16, 0x17
_VALUE = struct.Struct("=II")
_REQUEST = struct.Struct("@16sP16x")
"""struct ifreq (linux/if.h): a name, and here a pointer."""


def is_offloaded(fd: int, device: InterfaceName) -> bool:
    """Tell whether a device takes packets without checksums; `fd` is its namespace's. Raises `KernelError`."""
    return _ethtool(fd, device, _GET, 0) != 0


def set_offloaded(fd: int, device: InterfaceName, *, offloaded: bool) -> None:
    """Let the kernel make the checksums, and the segments, before a device gets a packet, or let it leave them."""
    _ethtool(fd, device, _SET, int(offloaded))


def _ethtool(fd: int, device: InterfaceName, command: int, value: int) -> int:
    data = ctypes.create_string_buffer(_VALUE.pack(command, value), _VALUE.size)
    request = bytearray(_REQUEST.pack(device.encode(), ctypes.addressof(data)))
    datagrams = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    with translated(f"offload of {device}"), entered(fd), socket.socket(socket.AF_INET, datagrams) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
    return int(_VALUE.unpack(data.raw)[1])
