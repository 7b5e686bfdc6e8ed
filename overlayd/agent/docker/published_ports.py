"""The ports that a container publishes, as Docker says them: com.docker.network.portmap."""

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from overlayd.model.address import IpAddress
from overlayd.model.errors import AlreadyExists, InvalidValue
from overlayd.model.published_port import PORT_MAX, PortMapping, TransportProtocol
from overlayd.wire.fields import Fields, parse_address

_OPTION = "com.docker.network.portmap"
_PORTS_MAX = 1024
_TRANSPORTS = {6: TransportProtocol.TCP, 17: TransportProtocol.UDP, 132: TransportProtocol.SCTP}
"""By the numbers of protocols in IP."""

_TRIES = 100


@dataclass(frozen=True, slots=True)
class WantedPort:
    """A port of a container, and between which ports of the host one is to lead to it: 0 to 0 for any."""

    transport: TransportProtocol
    container_port: int
    first: int
    last: int
    host_address: IpAddress | None


def wanted_ports(asked: Fields) -> list[WantedPort]:
    """Return the ports in the options of a call; raise `InvalidValue`."""
    options = asked.object("Options") if asked.has("Options") else Fields({})
    entries = options.objects(_OPTION) if options.has(_OPTION) else []
    if len(entries) > _PORTS_MAX:
        raise InvalidValue(f"{len(entries)} ports are more than {_PORTS_MAX}", field=_OPTION)
    return [_wanted(entry) for entry in entries]


def _wanted(entry: Fields) -> WantedPort:
    number = entry.number("Proto")
    if number not in _TRANSPORTS:
        raise InvalidValue(f"{number} is not TCP (6), UDP (17) or SCTP (132)", field=entry.at("Proto"))
    first = entry.number("HostPort") if entry.has("HostPort") else 0
    last = (entry.number("HostPortEnd") if entry.has("HostPortEnd") else 0) or first
    if not 0 <= first <= last <= PORT_MAX:
        raise InvalidValue(f"{first} to {last} is no range of ports", field=entry.at("HostPort"))
    given = entry.text("HostIP") if entry.has("HostIP") else ""
    address = parse_address(given, entry.at("HostIP")) if given else None
    return WantedPort(_TRANSPORTS[number], entry.number("Port"), first, last, address)


class PortChoice:
    """Chooses ports of the host where Docker leaves that open. `published` are the ports that lead somewhere."""

    def __init__(self, published: Callable[[], Iterable[PortMapping]]) -> None:
        self._published = published
        self._choosing: list[PortMapping] = []

    @contextmanager
    def chosen(self, wanted: Iterable[WantedPort]) -> Iterator[tuple[PortMapping, ...]]:
        """Yield a mapping for each wanted port; no other container gets a chosen one until the end of the block.

        Raises `AlreadyExists` when no port of a range is free, `InvalidValue` for one that cannot be published.
        """
        made: list[PortMapping] = []
        try:
            for each in wanted:
                mapping = self._mapping(each)
                made.append(mapping)
                self._choosing.append(mapping)
            yield tuple(made)
        finally:
            for mapping in made:
                self._choosing.remove(mapping)

    def _mapping(self, wanted: WantedPort) -> PortMapping:
        taken = [*self._published(), *self._choosing]
        candidates: Iterable[int] = range(wanted.first, wanted.last + 1)
        if not wanted.first:
            candidates = (_unused(wanted) for _ in range(_TRIES))
        for port in candidates:
            mapping = PortMapping(wanted.transport, port, wanted.container_port, wanted.host_address)
            if wanted.first == wanted.last != 0 or not any(mapping.has_number_of(each) for each in taken):
                return mapping
        raise AlreadyExists(f"no port of the host is free for port {wanted.container_port} of the container")


def _unused(wanted: WantedPort) -> int:
    """Return a port that no socket of the host has, as the kernel chooses one (ip(7): ip_local_port_range)."""
    kind = socket.SOCK_DGRAM if wanted.transport is TransportProtocol.UDP else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
    return port
