"""Reads or sets one value of a device by ethtool: whether it leaves checksums and segments to what is below it.

linux/ethtool.h: struct ethtool_value, ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM.
"""

import ctypes
import fcntl
import socket
import struct

from overlayd.kernel.port import translated
from overlayd.kernel.spaces.namespaces import entered
from overlayd.model.ids import InterfaceName

_SIOCETHTOOL = 0x8946
_GET_CHECKSUMS, _SET_CHECKSUMS = 0x16, 0x17
_VALUE = struct.Struct("=II")
_REQUEST = struct.Struct("@16sP16x")
"""struct ifreq (linux/if.h): a name, and here a pointer."""


def ethtool(fd: int, device: InterfaceName, command: int, value: int = 0) -> int:
    """Execute a command that takes or gives a number; `fd` is the device's namespace. Raises `KernelError`."""
    datagrams = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    with translated(f"ethtool {device}"), entered(fd), socket.socket(socket.AF_INET, datagrams) as any_socket:
        return ethtool_over(any_socket, device, command, value)


def ethtool_over(any_socket: socket.socket, device: InterfaceName, command: int, value: int = 0) -> int:
    """Do the same in the namespace of a socket, of whatever family (net/socket.c: sock_do_ioctl)."""
    data = ctypes.create_string_buffer(_VALUE.pack(command, value), _VALUE.size)
    request = bytearray(_REQUEST.pack(device.encode(), ctypes.addressof(data)))
    with translated(f"ethtool {device}"):
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
    return int(_VALUE.unpack(data.raw)[1])


def is_offloaded(fd: int, device: InterfaceName) -> bool:
    """Return whether a device takes packets without checksums; `fd` is open on its namespace. Raises `KernelError`."""
    return ethtool(fd, device, _GET_CHECKSUMS) != 0


def set_offloaded(fd: int, device: InterfaceName, *, offloaded: bool) -> None:
    """Let the kernel make the checksums, and the segments, before a device gets a packet, or let it leave them."""
    ethtool(fd, device, _SET_CHECKSUMS, int(offloaded))
