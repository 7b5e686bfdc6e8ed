"""The quarantine of addresses that containers of this host had until recently."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, KeysView
from ipaddress import ip_address
from pathlib import Path

import structlog

from overlayd.agent.runtime.logs import Complaint
from overlayd.configuration.files import read_regular
from overlayd.model.address import IpAddress
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import NetworkName, network_name

_log = structlog.get_logger(__name__)

QUARANTINE_SECONDS = 30.0
"""How long an address rests that a container gave back: others may have connections to it, and its MAC in mind."""

_SIZE_MAX = 1 << 24
"""Bytes of the file."""

_SPARE_LINES = 4096
"""How many lines the file may have of addresses that no longer rest, before it is rewritten."""


class RestingAddresses:
    """The quarantine of this host's addresses. `now` returns the seconds since the boot and never jumps.

    A restart of the agent takes a second or two, so each address is also appended to `file`, one a line, for the next
    agent of this boot. Where the file cannot be used the quarantine ends with the process.
    """

    def __init__(self, file: Path, now: Callable[[], float]) -> None:
        """Begin with the addresses in the file."""
        self._file = file
        self._now = now
        self._until: defaultdict[NetworkName, dict[IpAddress, float]] = defaultdict(dict)
        self._lines = 0
        self._failure = Complaint("a restart of the agent would forget which addresses rest")
        for end, network, address in sorted(self._load(), key=lambda each: each[0]):
            self._rest(network, address, min(end, now() + QUARANTINE_SECONDS))
        self._keep(self._written(), "w")

    def add(self, network: NetworkName, addresses: Iterable[IpAddress]) -> None:
        """Put addresses of a network into quarantine."""
        end, new = self._now() + QUARANTINE_SECONDS, list(addresses)
        for address in new:
            self._rest(network, address, end)
        if self._lines > _SPARE_LINES + 2 * sum(len(self.of(each)) for each in list(self._until)):
            self._lines = 0
            self._keep(self._written(), "w")
        else:
            self._keep([_line(end, network, address) for address in new], "a")

    def of(self, network: NetworkName) -> KeysView[IpAddress]:
        """Return the addresses of a network in quarantine; valid until the next call."""
        now, resting = self._now(), self._until[network]
        while resting and resting[first := next(iter(resting))] <= now:
            del resting[first]
        return resting.keys()

    def _rest(self, network: NetworkName, address: IpAddress, end: float) -> None:
        resting = self._until[network]
        resting.pop(address, None)  # they are ordered by the end of their rest
        resting[address] = end

    def _written(self) -> list[str]:
        return [
            _line(end, network, address) for network, resting in self._until.items() for address, end in resting.items()
        ]

    def _keep(self, lines: list[str], mode: str) -> None:
        self._lines += len(lines)
        try:
            with self._file.open(mode) as file:
                file.writelines(lines)
            self._failure.over()
        except OSError as error:
            self._failure.because(str(error))

    def _load(self) -> Iterator[tuple[float, NetworkName, IpAddress]]:
        try:
            lines = read_regular(self._file, _SIZE_MAX).decode(errors="replace").splitlines()
        except FileNotFoundError:
            return
        except (OSError, InvalidValue) as error:
            _log.warning("which addresses rest is not known", problem=str(error))
            return
        now = self._now()
        for line in lines:
            try:
                end, network, address = line.split(" ")
                found = float(end), network_name(network), ip_address(address)
            except (ValueError, InvalidValue):
                continue  # a line that a crash cut short
            if found[0] > now:
                yield found


def _line(end: float, network: NetworkName, address: IpAddress) -> str:
    return f"{end} {network} {address}\n"
