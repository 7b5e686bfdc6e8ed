"""Names and numbers that identify objects, and the rules they obey.

Each function takes untrusted input and the name of the field it came from, and returns the typed id or raises
`InvalidValue` that names the field.
"""

import re
from typing import NewType

from overlayd.model.errors import InvalidValue

NetworkName = NewType("NetworkName", str)
ReservationName = NewType("ReservationName", str)
HostId = NewType("HostId", str)
HostNumber = NewType("HostNumber", int)
Vni = NewType("Vni", int)
Revision = NewType("Revision", int)
ContainerId = NewType("ContainerId", str)
InterfaceName = NewType("InterfaceName", str)
MacAddress = NewType("MacAddress", str)

VNI_MAX = 2**24 - 1
"""The largest VXLAN network identifier (RFC 7348 section 5: 24 bits); 0 is left unused."""

HOST_NUMBER_MAX = 64_000
"""Each host's next hop is one address of 169.254.0.0/16, which bounds the number of hosts in one cluster."""

NETWORK_NAME_MAX = 63
CONTAINER_ID_MAX = 128
INTERFACE_NAME_MAX = 15
"""IFNAMSIZ less the final NUL (linux/if.h)."""

OWN_MACS = "02:6f:76:"
"""The prefix of the MACs of overlayd's own devices: tunnel ends, gateways and uplinks."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_INTERFACE_FORBIDDEN = re.compile(r"[/:\s\x00-\x1f\x7f\ud800-\udfff]")
_QUOTED_MAX = 80


def quoted(value: object) -> str:
    """Return the value quoted and cut to a bounded length, for the text of an error."""
    try:
        text = repr(value)
    except RecursionError:  # a document may be nested just less than what its parser refuses
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= _QUOTED_MAX else text[:_QUOTED_MAX] + "…"


def _name(value: str, field: str, limit: int) -> str:
    if not _NAME.fullmatch(value):
        raise InvalidValue(
            f"{quoted(value)} must start with a letter or digit and hold only letters, digits, '_', '.' and '-'",
            field=field,
        )
    if len(value) > limit:
        raise InvalidValue(f"{quoted(value)} is longer than {limit} characters", field=field)
    return value


def network_name(value: str, field: str = "name") -> NetworkName:
    """Check a network's name (CNI SPEC, section 1: the rule for `name`), at most 63 characters."""
    return NetworkName(_name(value, field, NETWORK_NAME_MAX))


def reservation_name(value: str, field: str = "name") -> ReservationName:
    """Check a reservation's name, unique in its network. It obeys the same rule as a network's name."""
    return ReservationName(_name(value, field, NETWORK_NAME_MAX))


def host_id(value: str, field: str = "id") -> HostId:
    """Check a host's stable id, at most 63 characters."""
    return HostId(_name(value, field, NETWORK_NAME_MAX))


def container_id(value: str, field: str = "container_id") -> ContainerId:
    """Check a container id (CNI SPEC, section 2: the rule for CNI_CONTAINERID), at most 128 characters."""
    return ContainerId(_name(value, field, CONTAINER_ID_MAX))


def interface_name(value: str, field: str = "interface") -> InterfaceName:
    """Check an interface name (CNI SPEC, section 2: CNI_IFNAME, and the kernel's dev_valid_name)."""
    if not value or len(value.encode(errors="surrogatepass")) > INTERFACE_NAME_MAX:
        raise InvalidValue(f"{quoted(value)} must have 1 to {INTERFACE_NAME_MAX} bytes", field=field)
    if value in {".", ".."} or _INTERFACE_FORBIDDEN.search(value):
        raise InvalidValue(f"{quoted(value)} must not be '.' or '..' nor hold '/', ':' or a space", field=field)
    return InterfaceName(value)


def host_number(value: int, field: str = "number") -> HostNumber:
    """Check a host number, 1..64000. The MAC of number 0 is the gateway's, the same on every host."""
    if not 1 <= value <= HOST_NUMBER_MAX:
        raise InvalidValue(f"{value} is not in 1..{HOST_NUMBER_MAX}", field=field)
    return HostNumber(value)


def vni(value: int, field: str = "vni") -> Vni:
    """Check a VXLAN network identifier, 1..16777215 (RFC 7348 section 5)."""
    if not 1 <= value <= VNI_MAX:
        raise InvalidValue(f"{value} is not in 1..{VNI_MAX}", field=field)
    return Vni(value)


def mac_address(value: str, field: str = "mac") -> MacAddress:
    """Check a unicast MAC address and return it in lower case with colons."""
    lowered = value.lower()
    if not _MAC.fullmatch(lowered):
        raise InvalidValue(f"{quoted(value)} is not a MAC address such as 02:12:34:56:78:9a", field=field)
    if int(lowered[:2], 16) & 1 or lowered == "00:00:00:00:00:00":
        raise InvalidValue(f"{quoted(value)} is not a unicast address", field=field)
    return MacAddress(lowered)


def packed_mac(mac: MacAddress) -> bytes:
    """Return the six bytes of a MAC."""
    return bytes.fromhex(mac.replace(":", ""))


def workload_mac(value: str, field: str = "mac") -> MacAddress:
    """Check the MAC that a container or a reservation asks for: unicast, and not in the range of our own devices.

    Stored MACs are read by `mac_address`, because earlier releases accepted MACs in that range.
    """
    checked = mac_address(value, field)
    if is_own_mac(checked):
        raise InvalidValue(f"{quoted(value)}: {OWN_MACS}* is for the devices of overlayd itself", field=field)
    return checked


def is_own_mac(mac: MacAddress) -> bool:
    """Return whether a MAC is in the range of overlayd's own devices."""
    return mac.startswith(OWN_MACS)
