"""Which address of this host other hosts reach."""

import socket
from ipaddress import IPv4Address

from overlayd.model.errors import OverlayError, Unavailable
from overlayd.model.host import check_vtep_address

_DISCARD_PORT = 9
"""Connecting a UDP socket sends nothing; any port will do."""


def source_address(destination: str) -> IPv4Address:
    """Return the source address of the route to a destination; raise `Unavailable` when there is none of use."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            probe.connect((destination, _DISCARD_PORT))
            address = IPv4Address(probe.getsockname()[0])
        return check_vtep_address(address)
    except OSError as error:
        raise Unavailable(f"no route to the controller {destination}: {error}; set --vtep") from error
    except OverlayError as error:
        raise Unavailable(f"the route to the controller {destination} starts at {error}; set --vtep") from error
