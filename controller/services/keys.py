"""Where everything stands in the store, and how a value is written there.

Records stand under their kind. Beside them stand *claims*, which make a VNI, a host number and a VTEP address unique by
being keys, and `holdings/<host>`, which every transaction about the blocks and endpoints of a host compares and
writes, so that two controllers never change them at once. `intent` is written by every transaction that changes a
record: its modification revision is the *intent revision*, the same for every controller, deletions included. Presence
is no intent.
"""

import json
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network

from overlayd.model.block import Block
from overlayd.model.cluster import Record
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.host import Host
from overlayd.model.ids import HostId, HostNumber, NetworkName, Vni
from overlayd.model.network import Network
from overlayd.wire import records
from overlayd.wire.fields import Fields, Json

VALUE_VERSION = 1

PREFIX = "/overlayd/v1/"
INTENT = f"{PREFIX}intent"
PRESENCE = f"{PREFIX}presence/"

_NETWORKS = f"{PREFIX}networks/"
_HOSTS = f"{PREFIX}hosts/"
_BLOCKS = f"{PREFIX}blocks/"
_ENDPOINTS = f"{PREFIX}endpoints/"

_DECODERS: dict[str, Callable[[Fields], Record]] = {
    _NETWORKS: records.decode_network,
    _HOSTS: records.decode_host,
    _BLOCKS: records.decode_block,
    _ENDPOINTS: records.decode_endpoint,
}


def network(name: NetworkName) -> str:
    return f"{_NETWORKS}{name}"


def host(host_id: HostId) -> str:
    return f"{_HOSTS}{host_id}"


def blocks_of(name: NetworkName) -> str:
    """Return the prefix of a network's blocks."""
    return f"{_BLOCKS}{name}/"


def block(name: NetworkName, cidr: IPv4Network) -> str:
    return f"{blocks_of(name)}{cidr}"


def endpoints_of(name: NetworkName) -> str:
    """Return the prefix of a network's endpoints."""
    return f"{_ENDPOINTS}{name}/"


def endpoint(key: EndpointKey) -> str:
    name, host_id, container_id, interface = key
    return f"{endpoints_of(name)}{host_id}/{container_id}/{interface}"


def vni(number: Vni) -> str:
    """Return the claim of a network on a VNI."""
    return f"{PREFIX}vnis/{number}"


def number(number: HostNumber) -> str:
    """Return the claim of a host on its number."""
    return f"{PREFIX}numbers/{number}"


def vtep(address: IPv4Address) -> str:
    """Return the claim of a host on its underlay address."""
    return f"{PREFIX}vteps/{address}"


def holdings(host_id: HostId) -> str:
    """Return the key that guards the blocks and endpoints of a host."""
    return f"{PREFIX}holdings/{host_id}"


def presence(host_id: HostId, controller: str) -> str:
    """Return the key that says that a host is connected to a controller.

    It names the controller too: a host that changes over is announced by its new controller before the old one notices.
    """
    return f"{PRESENCE}{host_id}/{controller}"


def of(record: Record) -> str:
    """Return the key of a record."""
    match record:
        case Network(name=name):
            return network(name)
        case Host(id=host_id):
            return host(host_id)
        case Block(network=name, cidr=cidr):
            return block(name, cidr)
        case Endpoint():
            return endpoint(record.key)


def is_record(key: str) -> bool:
    """Tell whether a key holds a record."""
    return key.startswith(tuple(_DECODERS))


def encode(value: dict[str, Json]) -> bytes:
    """Return an object as it stands in the store, with its version."""
    return json.dumps({"v": VALUE_VERSION, **value}, separators=(",", ":")).encode()


def decode(value: bytes) -> Fields:
    """Read an object of the store; raise `ValueError` when a newer controller wrote it."""
    fields = Fields(json.loads(value))
    if (version := fields.number("v")) != VALUE_VERSION:
        raise ValueError(f"the store holds values of version {version}, and this controller reads {VALUE_VERSION}")
    return fields


def encode_record(record: Record) -> bytes:
    return encode(records.encode(record))


def decode_record(key: str, value: bytes) -> Record:
    """Read the record that stands at a key."""
    decoder = next(decoder for prefix, decoder in _DECODERS.items() if key.startswith(prefix))
    return decoder(decode(value))


EMPTY = encode({})
"""The value of keys that matter by their revision alone."""


def claim(holder: NetworkName | HostId) -> bytes:
    """Return the value of a claim: who holds it, for whoever reads the store."""
    return encode({"holder": holder})
