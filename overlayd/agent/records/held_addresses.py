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
from overlayd.model.ids import MacAddress, NetworkName, mac_address, network_name

_log = structlog.get_logger(__name__)

_VERSION = 1
_SIZE_MAX = 4096
"""Bytes of one file."""


class HeldAddresses:
    """The held addresses of every network, each in a file of its own below `directory`, which is on a tmpfs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: defaultdict[NetworkName, set[IpAddress]] = defaultdict(set)
        self._intended: dict[tuple[NetworkName, IpAddress], MacAddress] = {}

    def load(self) -> None:
        """Read what is held but for damaged files; raise `InvalidValue` for a file of a newer agent, or `OSError`."""
        for name in names(self._directory):
            if not name.endswith(".json"):
                continue
            try:
                fields = read_versioned(self._directory / name, _SIZE_MAX, _VERSION)
                network = network_name(fields.text("network"), fields.at("network"))
                address = fields.address("address")
                if fields.has("intended_for"):
                    intended_for = mac_address(fields.text("intended_for"), fields.at("intended_for"))
                    self._intended[network, address] = intended_for
                self._held[network].add(address)
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

    def intended(self) -> dict[tuple[NetworkName, IpAddress], MacAddress]:
        """Return the addresses that are held for endpoints that do not exist yet, with the MACs these are to have."""
        return dict(self._intended)

    def put(self, network: NetworkName, address: IpAddress, intended_for: MacAddress | None = None) -> None:
        """Hold an address, or hold it for something else; `intended_for` is the MAC of an endpoint that is to come.

        Raises `OSError` when that cannot be written: then nothing has changed.
        """
        content = {"v": _VERSION, "network": network, "address": str(address)}
        if intended_for is not None:
            content["intended_for"] = intended_for
        write_atomically(self._path(network, address), json.dumps(content).encode())
        self._held[network].add(address)
        self._intended.pop((network, address), None)
        if intended_for is not None:
            self._intended[network, address] = intended_for

    def remove(self, network: NetworkName, address: IpAddress) -> None:
        """Hold an address no longer; does nothing when it is not held."""
        self._path(network, address).unlink(missing_ok=True)
        self._held[network].discard(address)
        self._intended.pop((network, address), None)

    def _path(self, network: NetworkName, address: IpAddress) -> Path:
        digest = hashlib.blake2s(f"{network}\0{address}".encode(), digest_size=12).hexdigest()
        return self._directory / f"{digest}.json"
