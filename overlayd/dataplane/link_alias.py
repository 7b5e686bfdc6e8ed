"""Which endpoint a veth pair is for, written on its host end (``ip link show``: alias). Pure.

The kernel keeps it as long as the device: an agent that has lost its records knows from it what lives here.
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
"""The mark, network, container, interface, MAC and addresses: what a record cannot be made without."""


@dataclass(frozen=True, slots=True)
class Named:
    """What an alias says. `sandbox` is empty where its path did not fit."""

    network: NetworkName
    container_id: ContainerId
    interface: InterfaceName
    mac: MacAddress
    addresses: tuple[IpAddress, ...]
    sandbox: str = ""


def alias(endpoint: Endpoint) -> str:
    """Return what is written on an endpoint's host end; nothing when not even its key and addresses fit."""
    addresses = ",".join(map(str, endpoint.addresses))
    fields = [_MARK, endpoint.network, endpoint.container_id, endpoint.interface, endpoint.mac, addresses]
    key = " ".join(fields)
    whole = f"{key} {endpoint.sandbox}"
    return next((text for text in (whole, key) if len(text.encode()) <= SIZE_MAX), "")


def parse(text: str) -> Named | None:
    """Return what an alias says, None when it is none of ours."""
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
