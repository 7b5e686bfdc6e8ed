"""Which address of this host other hosts can reach."""

import asyncio
import socket
from ipaddress import ip_address

from overlayd.model.address import IpAddress
from overlayd.model.errors import OverlayError, Unavailable
from overlayd.model.host import check_vtep_address

_DISCARD_PORT = 9
"""Connecting a UDP socket sends nothing; any port will do."""

_LOOKUP_MAX = 10.0
"""Seconds for the name of a destination: a resolver that is silent takes longer than anybody wants to wait."""


async def addresses_of(name: str) -> tuple[IpAddress, ...]:
    """Return the addresses of a controller by its name; raise `Unavailable` when it does not resolve."""
    try:
        async with asyncio.timeout(_LOOKUP_MAX):
            found = await asyncio.get_running_loop().getaddrinfo(name, _DISCARD_PORT, type=socket.SOCK_DGRAM)
    except (TimeoutError, OSError) as error:
        raise Unavailable(f"cannot resolve {name}: {error}") from error
    return tuple(ip_address(str(target[0]).partition("%")[0]) for *_, target in found)


async def source_address(destination: str) -> IpAddress:
    """Return the source address of the route to a destination; raise `Unavailable` when none is usable."""
    try:
        async with asyncio.timeout(_LOOKUP_MAX):
            (family, kind, _, _, target), *_ = await asyncio.get_running_loop().getaddrinfo(
                destination, _DISCARD_PORT, type=socket.SOCK_DGRAM
            )
        with socket.socket(family, kind | socket.SOCK_CLOEXEC) as probe:
            probe.connect(target)
            address = ip_address(probe.getsockname()[0])
        return check_vtep_address(address)
    except TimeoutError:
        raise Unavailable(f"no route to the controller {destination}: cannot resolve its name; set --vtep") from None
    except OSError as error:
        raise Unavailable(f"no route to the controller {destination}: {error}; set --vtep") from error
    except OverlayError as error:
        raise Unavailable(f"the route to the controller {destination} starts at {error}; set --vtep") from error
