"""Whether a device leaves checksums and segments to what is below it (linux/ethtool.h: ETHTOOL_GTXCSUM, _STXCSUM)."""

from overlayd.kernel.apply.ethtool import ethtool
from overlayd.model.ids import InterfaceName

_GET, _SET = 0x16, 0x17


def is_offloaded(fd: int, device: InterfaceName) -> bool:
    """Return whether a device takes packets without checksums; `fd` is its namespace's. Raises `KernelError`."""
    return ethtool(fd, device, _GET) != 0


def set_offloaded(fd: int, device: InterfaceName, *, offloaded: bool) -> None:
    """Let the kernel make the checksums, and the segments, before a device gets a packet, or let it leave them."""
    ethtool(fd, device, _SET, int(offloaded))
