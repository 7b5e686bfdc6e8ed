"""The alias on the host's end of a veth pair (``ip link show``), which describes its endpoint. Pure.

It exists as long as the device, so an agent that has lost its attachment records can restore them from it.
"""

from dataclasses import dataclass
from ipaddress import ip_address

from overlayd.model import ids
from overlayd.model.address import IpAddress
from overlayd.model.endpoint import Endpoint, check_addresses
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import ContainerId, InterfaceName, MacAddress, NetworkName

SIZE_MAX = 255
"""Bytes (linux/if.h: IFALIASZ, with a zero byte at its end)."""

_MARK = "overlayd"
_KEY_FIELDS = 6
"""The mark, network, container, interface, MAC and addresses: all that a record needs at least."""


@dataclass(frozen=True, slots=True)
class Named:
    """The content of an alias. `sandbox` is empty where its path did not fit."""

    network: NetworkName
    container_id: ContainerId
    interface: InterfaceName
    mac: MacAddress
    addresses: tuple[IpAddress, ...]
    sandbox: str = ""


def alias(endpoint: Endpoint) -> str:
    """Return the alias of an endpoint, the empty string when its key and addresses do not fit."""
    addresses = ",".join(map(str, endpoint.addresses))
    fields = [_MARK, endpoint.network, endpoint.container_id, endpoint.interface, endpoint.mac, addresses]
    key = " ".join(fields)
    whole = f"{key} {endpoint.sandbox}"
    return next((text for text in (whole, key) if len(text.encode()) <= SIZE_MAX), "")


def parse(text: str) -> Named | None:
    """Return the content of an alias, None when it is foreign."""
    mark, *fields = text.split(" ", _KEY_FIELDS)
    if mark != _MARK or len(fields) < _KEY_FIELDS - 1:
        return None
    network, container, interface, mac, addresses, *sandbox = fields
    try:
        found = tuple(map(ip_address, addresses.split(",")))
        check_addresses(found)
        return Named(
            ids.network_name(network),
            ids.container_id(container),
            ids.interface_name(interface),
            ids.mac_address(mac),
            found,
            "".join(sandbox),
        )
    except (InvalidValue, ValueError):
        return None
