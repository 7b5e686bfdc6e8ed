"""The form of the cached cluster: one line with version and checksum, then JSON whose tables are columns.

Networks and reservations, which are few, stand as the feed sends them. Of what there is one for each host, a column is
one array of JSON, which is read by the C of the standard library and checked as a whole: ten times faster than objects,
and as fast as `marshal`, which may crash on a file that it did not write, and whose form may differ in another Python.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import MappingProxyType
from typing import TypeVar

from overlayd.model import ids
from overlayd.model.address import IpAddress, IpNetwork
from overlayd.model.block import Block, BlockKey
from overlayd.model.cluster import UNKNOWN, ByNetwork, Cluster
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.errors import InvalidValue
from overlayd.model.host import Host, HostState
from overlayd.model.ids import HostId, HostNumber, NetworkName, Revision
from overlayd.model.lineage import parse_lineage
from overlayd.model.reservation import Reservation, ReservationKey
from overlayd.wire import records
from overlayd.wire.feed import FEED_VERSION
from overlayd.wire.fields import Fields, Json

VERSION = 3
"""Versions 1 and 2 were JSON objects without a checksum, in a file of another name."""

_TITLE = "overlayd cluster"
_CHECKSUM = 16
"""Bytes."""

_V6 = 1 << 128
"""Marks the number of an IPv6 address: the small ones would be IPv4 addresses otherwise."""

T = TypeVar("T")
Key = TypeVar("Key", bound=tuple[NetworkName, *tuple[object, ...]])


def encode(cluster: Cluster, feed_version: int) -> bytes:
    """Return the content of a file with a cluster, from a version of the feed."""
    indexes: dict[HostId, int] = {host: index for index, host in enumerate(cluster.hosts)}
    hosts = cluster.hosts.values()
    document: dict[str, object] = {
        "feed": feed_version,
        "revision": cluster.revision,
        "lineage": str(cluster.lineage) if cluster.lineage else None,
        "networks": [records.encode(network) for network in cluster.networks.values()],
        "reservations": [records.encode(reservation) for reservation in cluster.reservations.values()],
        "hosts": {
            "id": list(cluster.hosts),
            "number": [host.number for host in hosts],
            "name": [host.name for host in hosts],
            "address": [_packed(host.address) for host in hosts],
            "states": {str(indexes[host.id]): host.state for host in hosts if host.state is not HostState.ACTIVE},
        },
        "blocks": [
            {
                "network": name,
                "address": [_packed(block.cidr.network_address) for block in table.values()],
                "length": [block.cidr.prefixlen for block in table.values()],
                "host": [indexes.get(block.host, block.host) for block in table.values()],
            }
            for name, table in cluster.blocks.tables.items()
        ],
        "endpoints": [
            {
                "network": name,
                "container_id": [endpoint.container_id for endpoint in table.values()],
                "interface": [endpoint.interface for endpoint in table.values()],
                "host": [indexes.get(endpoint.host, endpoint.host) for endpoint in table.values()],
                "addresses": [[*map(_packed, endpoint.addresses)] for endpoint in table.values()],
                "mac": [endpoint.mac for endpoint in table.values()],
                "sandbox": [endpoint.sandbox for endpoint in table.values()],
            }
            for name, table in cluster.endpoints.tables.items()
        ],
    }
    body = json.dumps(document, separators=(",", ":")).encode()
    return f"{_TITLE} {VERSION} {_checksum(body)}\n".encode() + body


def decode(content: bytes) -> Cluster:
    """Return the cluster in the content of a file.

    A cluster from an older version of the feed gets no revision: this version may have more records of it. Raises
    `InvalidValue` when the content is not what `encode` wrote, with the part at fault as the field.
    """
    head, _, body = content.partition(b"\n")
    title, version, checksum = [*head.decode(errors="replace").rsplit(" ", 2), "", ""][:3]
    if title != _TITLE or not version.isdecimal():
        raise InvalidValue("is no cached cluster")
    if version != str(VERSION):  # no earlier one was in a file of this form
        raise InvalidValue("was written by a newer overlayd")
    if checksum != _checksum(body):
        raise InvalidValue("is damaged: the checksum is wrong")
    try:
        return _cluster(Fields(json.loads(body)))
    except (ValueError, RecursionError) as error:  # of JSON, columns of different lengths, or addresses
        raise InvalidValue(f"is damaged: {error}") from None


def _checksum(body: bytes) -> str:
    return blake2b(body, digest_size=_CHECKSUM).hexdigest()


def _packed(address: IpAddress) -> int:
    return int(address) | (_V6 if address.version == 6 else 0)  # noqa: PLR2004 - IPv6


def _address(packed: int) -> IpAddress:
    return IPv6Address(packed - _V6) if packed >= _V6 else IPv4Address(packed)


def _numbers(items: list[Json]) -> list[int]:
    if any(type(item) is not int for item in items):
        raise InvalidValue("has something else than numbers", field="addresses")
    return items  # type: ignore[return-value]


def _cidr(packed: int, length: int) -> IpNetwork:
    return IPv6Network((packed - _V6, length)) if packed >= _V6 else IPv4Network((packed, length))


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of one table. Each is checked as a whole, for the type of every item."""

    fields: Fields
    hosts: tuple[HostId, ...] = ()

    def of(self, name: str, kind: type[T]) -> list[T]:
        items = self.fields.items(name)
        if any(type(item) is not kind for item in items):
            raise InvalidValue(f"has something else than {kind.__name__}", field=self.fields.at(name))
        return items  # type: ignore[return-value]

    def host_ids(self) -> list[HostId]:
        """Return the hosts of a column: indexes of known hosts, and ids of others."""
        return [self._host(item) for item in self.fields.items("host")]

    def _host(self, item: Json) -> HostId:
        if type(item) is str:
            return ids.host_id(item, self.fields.at("host"))
        if type(item) is not int or not 0 <= item < len(self.hosts):
            raise InvalidValue("names no host", field=self.fields.at("host"))
        return self.hosts[item]

    def network(self) -> NetworkName:
        return ids.network_name(self.fields.text("network"), self.fields.at("network"))


def _cluster(fields: Fields) -> Cluster:
    networks = [records.decode_network(each) for each in fields.objects("networks")]
    reservations = [records.decode_reservation(each) for each in fields.objects("reservations")]
    hosts = {host.id: host for host in _hosts(_Columns(fields.object("hosts")))}
    known = tuple(hosts)
    revision = Revision(fields.number("revision"))
    return Cluster(
        revision if fields.number("feed") == FEED_VERSION else UNKNOWN,
        MappingProxyType({network.name: network for network in networks}),
        MappingProxyType(hosts),
        ByNetwork(_tables(_blocks(_Columns(each, known)) for each in fields.objects("blocks"))),
        ByNetwork(_tables(_endpoints(_Columns(each, known)) for each in fields.objects("endpoints"))),
        ByNetwork[ReservationKey, Reservation]().changed([(each.key, each) for each in reservations], (), ()),
        parse_lineage(fields.text("lineage"), "lineage") if fields.has("lineage") else None,
    )


def _tables(tables: Iterable[list[tuple[Key, T]]]) -> Mapping[NetworkName, Mapping[Key, T]]:
    return MappingProxyType({table[0][0][0]: MappingProxyType(dict(table)) for table in tables if table})


def _hosts(columns: _Columns) -> list[Host]:
    states = columns.fields.object("states")
    host_ids, numbers = columns.of("id", str), columns.of("number", int)
    rows = zip(host_ids, numbers, columns.of("name", str), columns.of("address", int), strict=True)
    found = [Host(HostId(host), HostNumber(number), name, _address(packed)) for host, number, name, packed in rows]
    for index in map(int, states.value):
        host = found[index] if 0 <= index < len(found) else None
        if host is None:
            raise InvalidValue("names no host", field=states.path)
        state = states.choice(str(index), HostState)
        found[index] = Host(host.id, host.number, host.name, host.address, state)
    return found


def _blocks(columns: _Columns) -> list[tuple[BlockKey, Block]]:
    network = columns.network()
    rows = zip(columns.of("address", int), columns.of("length", int), columns.host_ids(), strict=True)
    cidrs = [(_cidr(packed, length), host) for packed, length, host in rows]
    return [((network, cidr), Block(network, cidr, host)) for cidr, host in cidrs]


def _endpoints(columns: _Columns) -> list[tuple[EndpointKey, Endpoint]]:
    network = columns.network()
    rows = zip(
        columns.of("container_id", str),
        columns.of("interface", str),
        columns.host_ids(),
        columns.of("addresses", list),
        columns.of("mac", str),
        columns.of("sandbox", str),
        strict=True,
    )
    found = [
        Endpoint(
            network,
            ids.ContainerId(container),
            ids.InterfaceName(interface),
            host,
            tuple(_address(packed) for packed in _numbers(addresses)),
            ids.MacAddress(mac),
            sandbox,
        )
        for container, interface, host, addresses, mac, sandbox in rows
    ]
    return [(endpoint.key, endpoint) for endpoint in found]
