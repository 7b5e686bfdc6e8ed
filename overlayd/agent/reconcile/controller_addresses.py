"""The addresses of the controllers, and of the nameservers that resolve their names."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from overlayd.agent.controllers.own_address import addresses_of
from overlayd.agent.reconcile.drift import Drift
from overlayd.configuration.files import write_atomically
from overlayd.dataplane.items import HOST
from overlayd.ipam.lifelines import Lifeline
from overlayd.model.address import IpAddress
from overlayd.model.errors import InvalidValue, Unavailable
from overlayd.wire.fields import Fields

_log = structlog.get_logger(__name__)

RESOLVER_FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
"""Where nameservers stand; the second file has those behind systemd-resolved, which the first one hides."""

_VERSION = 1


class ControllerAddresses:
    """The addresses in the URLs of controllers, and those of names as they were last resolved.

    The latter are kept in a file. Without it, an agent that starts while no nameserver answers would not know which
    addresses a network of the cached cluster must not divert, and might divert the nameserver's too.
    """

    def __init__(self, urls: Sequence[str], file: Path) -> None:
        """Begin with the file's addresses for the names in these URLs."""
        self._file = file
        self._literal: set[IpAddress] = set()
        self._names: list[str] = []
        for host in dict.fromkeys(urlsplit(url).hostname or "" for url in urls):
            if (literal := _literal(host)) is not None:
                self._literal.add(literal)
            else:
                self._names.append(host)
        remembered = self._load() if self._names else {}
        self._found = {name: remembered[name] for name in self._names if name in remembered}
        self._asked = asyncio.Event()
        self._nameservers = {file: frozenset[IpAddress]() for file in RESOLVER_FILES}

    @property
    def lifelines(self) -> frozenset[Lifeline]:
        """The controllers' addresses, and those of the nameservers if a controller has a name."""
        found = {Lifeline(address, "a controller's address") for address in self._literal}
        for name, addresses in self._found.items():
            found |= {Lifeline(address, f"the controller {name}") for address in addresses}
        if self._names:
            found |= {Lifeline(address, "a nameserver of this host") for address in self.nameservers}
        return frozenset(found)

    @property
    def nameservers(self) -> frozenset[IpAddress]:
        """The nameservers of this host; for a file that cannot be read now, those that it had before."""
        for file in self._nameservers:
            with suppress(OSError):
                self._nameservers[file] = frozenset(_nameservers(file))
        return frozenset().union(*self._nameservers.values())

    async def known(self) -> None:
        """Return when each name has an address, resolved or from the file, or has been found not to resolve."""
        if len(self._found) < len(self._names):
            await self._asked.wait()

    async def follow(self, interval: float, drift: Drift) -> None:
        """Resolve the names every `interval` seconds, until cancelled; start a cycle when their addresses changed."""
        while self._names:
            before = dict(self._found)
            for name in self._names:
                with suppress(Unavailable):  # what is known stays: no answer contradicts it
                    self._found[name] = frozenset(await addresses_of(name))
            self._asked.set()
            if self._found != before:
                await asyncio.to_thread(self._save)
                drift.suspect(frozenset({HOST}))
            await asyncio.sleep(interval)

    def _load(self) -> Mapping[str, frozenset[IpAddress]]:
        try:
            fields = Fields(json.loads(self._file.read_bytes()), str(self._file))
            names = fields.object("names")
            return {name: frozenset(names.addresses(name)) for name in self._names if names.has(name)}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError, InvalidValue) as error:
            _log.warning("the controllers' last addresses cannot be read", file=str(self._file), problem=str(error))
            return {}

    def _save(self) -> None:
        names = {name: sorted(map(str, addresses)) for name, addresses in self._found.items()}
        try:
            write_atomically(self._file, json.dumps({"v": _VERSION, "names": names}).encode())
        except OSError as error:
            _log.warning("cannot save the controllers' addresses", file=str(self._file), problem=str(error))


def _nameservers(file: Path) -> Iterator[IpAddress]:
    """Yield the nameservers of a file (resolv.conf(5)); raise `OSError` when there is one that cannot be read."""
    try:
        text = file.read_text(errors="replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        keyword, *values = line.split()[:2] or [""]
        if keyword == "nameserver" and values and (address := _literal(values[0])) is not None:
            yield address


def _literal(text: str) -> IpAddress | None:
    """Return an address without the device that a link-local one may name; None when it is a name."""
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        return None
