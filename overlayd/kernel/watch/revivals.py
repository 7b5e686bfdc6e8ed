"""Detects devices in sandboxes that went down and came up again, by the host's ends of their veth pairs.

A device that goes down loses its routes, neighbours and IPv6 addresses, and the kernel reports that in the sandbox
only. But the other end loses its carrier and counts that, so no socket in each sandbox is needed. A new pair has lost
it once.
"""

from collections.abc import Iterable

from overlayd.dataplane import ownership
from overlayd.kernel.netlink.decoding.link_reading import Device
from overlayd.model.ids import InterfaceName

_AS_MADE = 1
"""How often the carrier of a new pair was lost."""


class Revivals:
    """Revivals in one namespace. Those before the agent's start count too: they may not be repaired."""

    def __init__(self) -> None:
        self._losses: dict[int, int] = {}
        """How often the carrier was lost when it was last seen to be there, by index."""
        self._found: set[InterfaceName] = set()

    def saw_all(self, devices: Iterable[Device]) -> None:
        """Set all devices of the namespace, as observed."""
        present = list(devices)
        indexes = {device.index for device in present}
        self._losses = {index: losses for index, losses in self._losses.items() if index in indexes}
        for device in present:
            self.saw(device)

    def saw(self, device: Device) -> None:
        """Record the present state of one device."""
        if not device.name.startswith(ownership.VETH_PREFIX):
            self._losses.pop(device.index, None)  # it was taken out of use
            return
        losses = device.carrier_losses
        before = self._losses.get(device.index, _AS_MADE)
        if losses < before:  # another device has got the index
            before = self._losses[device.index] = _AS_MADE
        if losses > before and device.has_carrier:
            self._losses[device.index] = losses
            self._found.add(device.name)

    def take(self) -> set[InterfaceName]:
        """Return the names of the host's ends whose other ends came up again since the last call."""
        found, self._found = self._found, set()
        return found
