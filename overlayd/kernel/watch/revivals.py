"""Which sandboxes' devices went down and came up again, as the host's ends of their veth pairs tell.

A device that goes down loses its routes, neighbours and IPv6 addresses, and the kernel tells so in the sandbox alone.
But the other end loses its carrier, and counts that: it takes no socket in each sandbox. A new pair has lost it once.
"""

from collections.abc import Iterable

from overlayd.dataplane import ownership
from overlayd.kernel.netlink.decode import Device
from overlayd.model.ids import InterfaceName

_AS_MADE = 1
"""How often the carrier of a new pair was lost."""


class Revivals:
    """Those of one namespace. What was down before an agent began counts too: nothing tells whether it was mended."""

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
        """Return the names of the host's ends whose other ends came up again since this was asked last."""
        found, self._found = self._found, set()
        return found
