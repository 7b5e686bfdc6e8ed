"""The records of this host's attachments, kept until the host boots again."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import structlog

from overlayd.agent.runtime.versioned_file import NewerVersion, read_versioned
from overlayd.configuration.files import make_directory, names, replace_content
from overlayd.model import ids
from overlayd.model.address import IpAddress
from overlayd.model.bandwidth import UNLIMITED, Bandwidth
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import InterfaceName, NetworkName
from overlayd.model.published_port import PortMapping
from overlayd.wire import records
from overlayd.wire.cni import bandwidth, ports
from overlayd.wire.fields import Fields

_log = structlog.get_logger(__name__)

RECORD_VERSION = 2
"""In version 1 an endpoint had one `address`."""

_RECORD_MAX = 1 << 20
"""Bytes of one attachment's record; a thousand published ports take a tenth of it."""

_DAMAGED = ".damaged"

UNKNOWN_SANDBOX = (0, 0)
"""Device and inode of no namespace: no path is known to lead to the sandbox, or none does yet."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """An endpoint of this host, and which namespace its sandbox's path meant at that time (device, inode).

    A path such as /proc/PID/ns/net can mean another namespace later, into which nothing of ours must go. `ports` are
    those of the host that lead to it, and `bandwidth` limits it. It has a way out if its network had one when it was
    attached. It is not guarded if an older agent attached it: on a live device, the filter would cost packets.
    `owner` is the name of the configuration that attached it, None if none did. What `is_handed_over` was moved into
    its sandbox by its runtime, which gave it a name, addresses and routes there.
    """

    endpoint: Endpoint
    sandbox_id: tuple[int, int]
    ports: tuple[PortMapping, ...] = ()
    bandwidth: Bandwidth = UNLIMITED
    has_way_out: bool = False
    is_guarded: bool = True
    owner: NetworkName | None = None
    is_handed_over: bool = False


@dataclass(frozen=True, slots=True)
class Stray:
    """The host's end of a container's interface of which no record says whose it is, and the addresses that it has."""

    network: NetworkName
    device: InterfaceName
    addresses: frozenset[IpAddress]


class AttachmentRecords:
    """The attachments of this host, each in a file of its own below `directory`.

    The records end with the boot, as the containers do, so no address outlives it: the directory is on a tmpfs, and
    nothing in it is made durable. An administrator may remove it, or what is in it: `restore` writes again what is in
    memory, and a start recovers more.
    """

    def __init__(self, directory: Path) -> None:
        self.strays: frozenset[Stray] = frozenset()
        """Interfaces without a record. Their addresses count as taken."""
        self._directory = directory
        self._attachments: dict[EndpointKey, Attachment] = {}
        self._taken: defaultdict[NetworkName, Counter[IpAddress]] = defaultdict(Counter)
        self._damaged: list[str] = []

    def load(self) -> None:
        """Read all records but for damaged ones, which `set_aside_damaged` renames.

        Raises `InvalidValue` that names the file of a newer agent, and `OSError`.
        """
        for name in names(self._directory):
            if not name.endswith(".json"):
                continue
            try:
                self._keep(self._load(name))
            except NewerVersion:
                raise
            except InvalidValue as error:
                _log.warning("a record of an attachment is damaged", problem=str(error))
                self._damaged.append(name)

    def set_aside_damaged(self) -> None:
        """Rename damaged records, unless others were written in their place; raise `OSError`."""
        written = {self._path(key).name for key in self._attachments}
        for name in self._damaged:
            if name not in written:
                (self._directory / name).replace(self._directory / f"{name}{_DAMAGED}")
        self._damaged.clear()

    def discard_damaged(self) -> None:
        """Remove damaged records, as those that a crash of the machine left empty; raise `OSError`."""
        for name in self._damaged:
            (self._directory / name).unlink(missing_ok=True)
        self._damaged.clear()

    @property
    def set_aside(self) -> tuple[Path, ...]:
        """The damaged records that were set aside, until they are removed by hand; raises `OSError`."""
        return tuple(self._directory / name for name in names(self._directory) if name.endswith(_DAMAGED))

    def restore(self) -> int:
        """Write again what was removed from the directory; return how many records that were. Raises `OSError`."""
        there = set(names(self._directory))
        lost = [each for key, each in self._attachments.items() if self._path(key).name not in there]
        for attachment in lost:
            self._write(attachment)
        return len(lost)

    def withhold(self, stray: Stray) -> None:
        """Count the addresses of an interface without a record as taken."""
        self.strays |= {stray}

    def release(self, gone: Iterable[Stray]) -> None:
        """Free the withheld addresses of interfaces that no longer exist."""
        self.strays = self.strays.difference(gone)

    def _load(self, name: str) -> Attachment:
        """Return the attachment in a file; raise `InvalidValue` that names the file, and `OSError`."""
        path = self._directory / name
        fields = read_versioned(path, _RECORD_MAX, RECORD_VERSION)
        endpoint = records.decode_endpoint(fields)
        if self._path(endpoint.key) != path:
            raise InvalidValue("is the record of what has its record elsewhere", field=str(path))
        sandbox = fields.object("sandbox_id")
        return Attachment(
            endpoint,
            (sandbox.number("device"), sandbox.number("inode")),
            ports.decode(fields, "ports"),
            bandwidth.decode(fields, "bandwidth"),
            fields.flag("has_way_out"),
            fields.flag("is_guarded"),
            _owner(fields),
            fields.flag("is_handed_over"),
        )

    @property
    def attachments(self) -> Mapping[EndpointKey, Attachment]:
        """Every attachment by its endpoint's key, as of now."""
        return MappingProxyType(self._attachments)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Every endpoint of this host, as of now."""
        return tuple(attachment.endpoint for attachment in self._attachments.values())

    def addresses(self, network: NetworkName) -> AbstractSet[IpAddress]:
        """Return the addresses that endpoints of this host have in a network, and interfaces without a record."""
        taken = self._taken[network].keys()
        withheld = [stray.addresses for stray in self.strays if stray.network == network]
        return taken | frozenset().union(*withheld) if withheld else taken

    def put(self, attachment: Attachment) -> None:
        """Record an attachment; raise `OSError` when it cannot be written, and record nothing then."""
        self._write(attachment)
        self._keep(attachment)

    def _write(self, attachment: Attachment) -> None:
        device, inode = attachment.sandbox_id
        content = {
            "v": RECORD_VERSION,
            **records.encode(attachment.endpoint),
            "sandbox_id": {"device": device, "inode": inode},
            "conf": attachment.owner,
            "ports": ports.encode(attachment.ports),
            "bandwidth": bandwidth.encode(attachment.bandwidth),
            "has_way_out": attachment.has_way_out,
            "is_guarded": attachment.is_guarded,
            "is_handed_over": attachment.is_handed_over,
        }
        path, text = self._path(attachment.endpoint.key), json.dumps(content).encode()
        try:
            replace_content(path, text)
        except FileNotFoundError:  # the directory: the first record, or an administrator removed it
            make_directory(self._directory, 0o700)
            replace_content(path, text)

    def remove(self, key: EndpointKey) -> None:
        """Remove the record of an attachment."""
        self._path(key).unlink(missing_ok=True)
        self._drop(key)

    def _keep(self, attachment: Attachment) -> None:
        endpoint = attachment.endpoint
        self._drop(endpoint.key)
        self._attachments[endpoint.key] = attachment
        self._taken[endpoint.network].update(endpoint.addresses)

    def _drop(self, key: EndpointKey) -> None:
        if attachment := self._attachments.pop(key, None):
            taken = self._taken[attachment.endpoint.network]
            for address in attachment.endpoint.addresses:
                taken[address] -= 1
                if not taken[address]:
                    del taken[address]

    def _path(self, key: EndpointKey) -> Path:
        return self._directory / f"{hashlib.blake2s(chr(0).join(key).encode(), digest_size=12).hexdigest()}.json"


def _owner(fields: Fields) -> NetworkName | None:
    """Return the name of the configuration; agents that did not keep it knew no other than the network's."""
    name = "conf" if "conf" in fields.value else "network"
    return ids.network_name(fields.text(name), fields.at(name)) if fields.has(name) else None
