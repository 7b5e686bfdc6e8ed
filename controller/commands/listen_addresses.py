"""The addresses of this machine at which a controller is to listen, as `init` takes them."""

import errno
import re
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

from controller.server.local_addresses import local_addresses
from overlayd.model.address import IpAddress
from overlayd.model.errors import InUse, InvalidValue
from overlayd.model.ids import quoted

DEFAULT_PORT = 7471

_V4 = re.compile(r"([0-9.]+)(?::([0-9]{1,5}))?", re.ASCII)
_V6 = re.compile(r"\[([^]]+)\](?::([0-9]{1,5}))?", re.ASCII)
_PORT_MAX = 65535
_ELSEWHERE = {4: "198.51.100.1", 6: "2001:db8::1"}
"""Addresses for documentation (RFC 5737, RFC 3849), which only the default route reaches."""

_DISCARD_PORT = 9
_INTERNET = {socket.AF_INET, socket.AF_INET6}
_LOOPBACK = {4: ip_address("127.0.0.1"), 6: ip_address("::1")}


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address and a TCP port."""

    address: IpAddress
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        """Return the address and port in the form of settings and of URLs."""
        host = f"[{self.address}]" if ":" in str(self.address) else str(self.address)
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"https://{self}"

    @property
    def for_this_machine(self) -> "ListenAddress":
        """Where this machine itself reaches the listener."""
        return ListenAddress(_LOOPBACK[self.address.version], self.port) if self.address.is_unspecified else self

    @property
    def for_hosts(self) -> "ListenAddress":
        """Where hosts reach the listener: for all addresses, the default route's, else one that is not loopback."""
        if not self.address.is_unspecified:
            return self
        version = self.address.version
        others = (each for each in local_addresses() if each.version == version and not each.is_loopback)
        return ListenAddress(towards_all(version) or next(others, _LOOPBACK[version]), self.port)

    def check(self, field: str) -> None:
        """Raise `InvalidValue` when it is no address of this machine, or `InUse` when another process listens there."""
        family = socket.AF_INET6 if self.address.version == 6 else socket.AF_INET  # noqa: PLR2004 - IPv6
        try:
            socket.create_server((str(self.address), self.port), family=family).close()
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise InvalidValue(f"{self.address} is no address of this machine, {which()}", field=field) from None
            if error.errno == errno.EADDRINUSE:
                raise InUse(
                    f"port {self.port} of {self.address} is taken; `ss -ltnp sport = :{self.port}` shows the process."
                    f" Give another port: --listen ADDRESS:{self.port + 1}",
                    field=field,
                ) from None
            raise


def served(sockets: Iterable[socket.socket]) -> frozenset[IpAddress]:
    """Return the addresses at which other machines reach these sockets, as far as this machine can tell.

    For a socket on all addresses these are the source addresses of the default routes: others may be local.
    """
    bound = {ip_address(str(each.getsockname()[0]).partition("%")[0]) for each in sockets if each.family in _INTERNET}
    found = {address for address in bound if not (address.is_unspecified or address.is_loopback)}
    if any(address.is_unspecified for address in bound):
        found |= {address for version in _ELSEWHERE if (address := towards_all(version))}
    return frozenset(found)


def towards_all(version: int) -> IpAddress | None:
    """Return the source address of the default route: other addresses may be those of local bridges."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET  # noqa: PLR2004 - IPv6
    with socket.socket(family, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect((_ELSEWHERE[version], _DISCARD_PORT))  # which sends nothing
        return ip_address(probe.getsockname()[0])
    return None


def parse(text: str, field: str) -> ListenAddress:
    """Read ADDRESS, ADDRESS:PORT, or an IPv6 one in brackets; raise `InvalidValue`."""
    match = _V4.fullmatch(text) or _V6.fullmatch(text)
    host, port = (match[1], match[2]) if match else (text, None)
    try:
        address = ip_address(host)
    except ValueError:
        hint = f"{quoted(text)} is not an address such as 10.0.0.1, or 10.0.0.1:{DEFAULT_PORT}"
        raise InvalidValue(hint, field=field) from None
    if port is not None and not 1 <= int(port) <= _PORT_MAX:
        raise InvalidValue(f"{port} is not a port in 1..{_PORT_MAX}", field=field)
    return ListenAddress(address, int(port) if port else DEFAULT_PORT)


def with_loopback(places: Sequence[ListenAddress]) -> list[ListenAddress]:
    """Return these places with one at which `overlayctl` on this machine reaches the controller by itself."""
    if any(place.address.is_loopback or place.address.is_unspecified for place in places):
        return [*places]
    return [ListenAddress(_LOOPBACK[4], places[0].port), *places]


def missing(field: str) -> InvalidValue:
    """Return the error for a missing address."""
    return InvalidValue(f"say at which address of this machine hosts reach it, {which()}", field=field)


def which() -> str:
    """Return which addresses this machine has, as a clause."""
    found = [str(each) for each in local_addresses() if not each.is_loopback]
    return f"which has {', '.join(found)}" if found else "which has none but loopback"
