"""The subject of a query of the history: which objects match."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from controller.journal.change_record import Form
from overlayd.model.address import IpAddress, IpNetwork
from overlayd.model.errors import InvalidValue
from overlayd.wire import records
from overlayd.wire.fields import Json

Identity = tuple[str, ...]
"""The kind of an object, and what tells it from others of its kind."""

_IDENTITIES = {
    "network": ("name",),
    "host": ("id",),
    "block": ("network", "cidr"),
    "endpoint": ("network", "host", "container_id", "interface"),
    "reservation": ("network", "name"),
}

KINDS = frozenset(records.KINDS)
"""The kinds of objects whose state is known, and not only that they changed."""


def identity(kind: str, form: Form) -> Identity:
    """Return the part of a record that never changes."""
    return (kind, *(str(form.get(field)) for field in _IDENTITIES[kind]))


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of a query: objects that match every given value. `hosts` are ids and names of one host."""

    kind: str | None = None
    network: str | None = None
    hosts: frozenset[str] = frozenset()
    address: IpAddress | None = None
    container: str | None = None
    name: str | None = None

    def matches(self, kind: str, form: Form) -> bool:
        """Return whether an object matches."""
        return (
            self.kind in (None, kind)
            and (self.network is None or self.network == form.get("name" if kind == "network" else "network"))
            and (not self.hosts or not self.hosts.isdisjoint(_hosts(kind, form)))
            and (self.container is None or self.container in _containers(form))
            and (self.name is None or self.name in (form.get("name"), form.get("id")))
            and (self.address is None or _has_address(form, self.address))
        )

    def may_be_in(self, entry: bytes) -> bool:
        """Return whether an entry of the history may match: most entries are skipped without being parsed."""
        named = (self.kind, self.network, self.container, self.name)
        return (
            all(quoted(text) in entry for text in named if text is not None)
            and (not self.hosts or any(quoted(host) in entry for host in self.hosts))
            and (self.address is None or quoted(str(self.address)) in entry or b'"cidr":' in entry)
        )


EVERYTHING = Subject()


def quoted(text: str) -> bytes:
    """Return a text as an entry of the history stores it."""
    return json.dumps(text).encode()


def _hosts(kind: str, form: Form) -> Iterator[str]:
    holder = form.get("holder")
    where = holder if isinstance(holder, dict) else form
    found = (form.get("id"), form.get("name")) if kind == "host" else (where.get("host"),)
    return (text for text in found if isinstance(text, str))


def _containers(form: Form) -> tuple[Json, ...]:
    holder = form.get("holder")
    return (form.get("container_id"), holder.get("container_id") if isinstance(holder, dict) else None)


def _has_address(form: Form, wanted: IpAddress) -> bool:
    """Return whether an object has an address, or is the block in which it lies."""
    addresses = form.get("addresses")
    if isinstance(addresses, list):
        return str(wanted) in addresses
    cidr = form.get("cidr")
    if isinstance(cidr, str):
        return wanted in _network(cidr)
    return form.get("address") == str(wanted)


def _network(cidr: str) -> IpNetwork:
    try:
        return ip_network(cidr)
    except ValueError:
        raise InvalidValue(f"{cidr!r} of the history is no range") from None
