"""Reads or sets one value of a device by ethtool (linux/ethtool.h: struct ethtool_value)."""

import ctypes
import fcntl
import socket
import struct

from overlayd.kernel.port import translated
from overlayd.kernel.spaces.namespaces import entered
from overlayd.model.ids import InterfaceName

_SIOCETHTOOL = 0x8946
_VALUE = struct.Struct("=II")
_REQUEST = struct.Struct("@16sP16x")
"""struct ifreq (linux/if.h): a name, and here a pointer."""


def ethtool(fd: int, device: InterfaceName, command: int, value: int = 0) -> int:
    """Execute a command that takes or gives a number; `fd` is the device's namespace. Raises `KernelError`."""
    data = ctypes.create_string_buffer(_VALUE.pack(command, value), _VALUE.size)
    request = bytearray(_REQUEST.pack(device.encode(), ctypes.addressof(data)))
    datagrams = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    with translated(f"ethtool {device}"), entered(fd), socket.socket(socket.AF_INET, datagrams) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
    return int(_VALUE.unpack(data.raw)[1])
