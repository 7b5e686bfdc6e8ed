"""What is given out and what is free, of networks, VNIs, host numbers and VTEP addresses, kept as the store changes."""

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from controller.state import keys
from controller.state.address_space import AddressSpace, Claimant, Withholding
from overlayd.ipam.free_blocks import FreeNumbers
from overlayd.model import ids
from overlayd.model.address import IpNetwork
from overlayd.model.ids import HOST_NUMBER_MAX, VNI_MAX, HostId, NetworkName
from overlayd.model.network import Network

if TYPE_CHECKING:
    from overlayd.model.address import IpAddress


@dataclass(frozen=True, slots=True)
class VtepClaim:
    """The host that claimed an underlay address last, and whether it has registered another address since."""

    holder: HostId
    is_given_up: bool


class ClusterOccupancy:
    """The spaces of all networks, the free VNIs and host numbers, and the claims of VTEP addresses."""

    def __init__(self) -> None:
        self.vnis = FreeNumbers(1, VNI_MAX + 1)
        self.numbers = FreeNumbers(1, HOST_NUMBER_MAX + 1)
        self.vteps: dict[IpAddress, VtepClaim] = {}
        self._spaces: dict[NetworkName, AddressSpace] = {}

    def space(self, network: NetworkName) -> AddressSpace:
        """Return the space of a network; an empty one if nothing is known of it."""
        return self._spaces.get(network) or AddressSpace()

    @property
    def claimed(self) -> list[tuple[NetworkName, IpNetwork, Claimant]]:
        """What hosts use of which the store had lost that, network by network."""
        return [
            (name, unit, claimant) for name, space in self._spaces.items() for unit, claimant in space.claimants.items()
        ]

    def set_network(self, name: NetworkName, network: Network | None) -> None:
        """Apply a change of a network; None means that it was deleted."""
        space = self._spaces.setdefault(name, AddressSpace())
        space.set_network(network)
        self._drop_empty(name, space)

    def take_in(self, key: str, value: bytes | None) -> None:
        """Apply a put or a deletion of a key; most keys say nothing about what is free."""
        kind, _, rest = key.removeprefix(keys.PREFIX).partition("/")
        match kind:
            case "vnis":
                _set(self.vnis, int(rest), free=value is None)
            case "numbers":
                _set(self.numbers, int(rest), free=value is None)
            case "vteps":
                self._take_in_vtep(ip_address(rest), value)
            case "blocks" | "withheld" | "addresses" | "resting":
                name, _, part = rest.partition("/")
                self._take_in_part(NetworkName(name), kind, part, value)

    def _take_in_vtep(self, address: "IpAddress", value: bytes | None) -> None:
        if value is None:
            self.vteps.pop(address, None)
            return
        fields = keys.decode(value)
        self.vteps[address] = VtepClaim(HostId(fields.text("holder")), fields.flag("given_up"))

    def _take_in_part(self, name: NetworkName, kind: str, part: str, value: bytes | None) -> None:
        space, there = self._spaces.setdefault(name, AddressSpace()), value is not None
        match kind:
            case "blocks":
                space.set_block(ip_network(part), there=there)
            case "withheld":
                space.set_withheld(ip_network(part), *_read_withholding(value))
            case "addresses":
                space.set_claim(ip_address(part), there=there)
            case "resting":
                space.set_resting(ip_address(part), there=there)
        self._drop_empty(name, space)

    def _drop_empty(self, name: NetworkName, space: AddressSpace) -> None:
        if space.is_empty:
            del self._spaces[name]


def _read_withholding(value: bytes | None) -> tuple[Withholding | None, Claimant | None]:
    if value is None:
        return None, None
    fields = keys.decode(value)
    if fields.has("host"):
        host = ids.host_id(fields.text("host"), "host")
        return Withholding.CLAIMED, Claimant(host, ids.vni(fields.number("vni"), "vni"))
    return Withholding(fields.text("reason")), None


def _set(numbers: FreeNumbers, number: int, *, free: bool) -> None:
    if free:
        numbers.give(number, number + 1)
    else:
        numbers.take(number, number + 1)
