"""Addresses that runtimes were given before they attach an endpoint, or without one: held until the next boot."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Set as AbstractSet
from pathlib import Path

import structlog

from overlayd.agent.runtime.versioned_file import NewerVersion, read_versioned
from overlayd.configuration.files import names, write_atomically
from overlayd.model.address import IpAddress
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import NetworkName, network_name

_log = structlog.get_logger(__name__)

_VERSION = 1
_SIZE_MAX = 4096
"""Bytes of one file."""


class HeldAddresses:
    """The held addresses of every network, each in a file of its own below `directory`, which is on a tmpfs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: defaultdict[NetworkName, set[IpAddress]] = defaultdict(set)

    def load(self) -> None:
        """Read what is held but for damaged files; raise `InvalidValue` for a file of a newer agent, or `OSError`."""
        for name in names(self._directory):
            if not name.endswith(".json"):
                continue
            try:
                fields = read_versioned(self._directory / name, _SIZE_MAX, _VERSION)
                network = network_name(fields.text("network"), fields.at("network"))
                self._held[network].add(fields.address("address"))
            except NewerVersion:
                raise
            except InvalidValue as error:
                _log.warning("the record of a held address is damaged", problem=str(error))

    def of(self, network: NetworkName) -> AbstractSet[IpAddress]:
        """Return the held addresses of a network, as of now."""
        return self._held[network]

    def all(self) -> frozenset[tuple[NetworkName, IpAddress]]:
        """Return all held addresses with their networks."""
        return frozenset((network, address) for network, held in self._held.items() for address in held)

    def put(self, network: NetworkName, address: IpAddress) -> None:
        """Hold an address; raise `OSError` when that cannot be written, and then hold nothing."""
        content = {"v": _VERSION, "network": network, "address": str(address)}
        write_atomically(self._path(network, address), json.dumps(content).encode())
        self._held[network].add(address)

    def remove(self, network: NetworkName, address: IpAddress) -> None:
        """Hold an address no longer; does nothing when it is not held."""
        self._path(network, address).unlink(missing_ok=True)
        self._held[network].discard(address)

    def _path(self, network: NetworkName, address: IpAddress) -> Path:
        digest = hashlib.blake2s(f"{network}\0{address}".encode(), digest_size=12).hexdigest()
        return self._directory / f"{digest}.json"
