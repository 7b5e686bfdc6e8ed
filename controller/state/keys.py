"""The keys of the store, and the encoding of their values.

Records stand under their kind. Beside them stand *claims*, which make a VNI, a host number, a VTEP address and a MAC
in a network unique by being keys, and `holdings/<host>`, which every transaction about the blocks and endpoints of a
host compares and writes, so that two controllers never change them at once. `intent` is written by every transaction
that changes a record: its modification revision is the *intent revision*, the same for every controller, deletions
included. Presence is no intent, and neither is `instances/<host>`, which says which start of its agent registered last.

A unit of a network, which is a range as large as a block, is a host's by `blocks/`, or withheld from all of them by
`withheld/`, never both: a transaction that makes one compares that the other is absent. What hangs on a lease is in
quarantine, and free when the lease ends.
"""

import json

from overlayd.model.address import IpAddress, IpNetwork
from overlayd.model.block import Block
from overlayd.model.cluster import Record, RecordKey
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.host import Host
from overlayd.model.ids import HostId, HostNumber, MacAddress, NetworkName, ReservationName, Vni
from overlayd.model.network import Network
from overlayd.model.reservation import Reservation
from overlayd.wire import records
from overlayd.wire.credentials import TokenId
from overlayd.wire.fields import Fields, Json
from overlayd.wire.unknown_fields import NOTHING, Unknown

VALUE_VERSION = 2
"""Since 2 an endpoint has `addresses` and not one `address`. Values of version 1 are read, and written as 2."""

ROOT = "/overlayd/"
"""Everything that controllers write."""

PREFIX = "/overlayd/v1/"
HISTORY_BEGIN = "/overlayd/history-begin"
"""Until when the history has been forgotten."""

TIME = "/overlayd/time"
"""The time by which the store forgets."""

HISTORY = "/overlayd/history/v1/"
"""Not below `PREFIX`: no controller keeps the past in memory."""

RESTORING = "/overlayd/restoring"
"""There while a backup is being restored, or after that was interrupted: the store is not whole."""

AUTHORITY = "/overlayd/identity/v1/authority"
"""The certificate authority and its key; only code that signs reads them."""

INTENT = f"{PREFIX}intent"
LINEAGE = f"{PREFIX}lineage"
"""Every transaction of a service compares it: what a controller made of another lineage comes to nothing."""

STATEMENTS = f"{PREFIX}statements/"
PRESENCE = f"{PREFIX}presence/"
INSTANCES = f"{PREFIX}instances/"
TOKENS = f"{PREFIX}tokens/"

MACS = f"{PREFIX}macs/"
VNIS = f"{PREFIX}vnis/"
NUMBERS = f"{PREFIX}numbers/"

NETWORKS = f"{PREFIX}networks/"
_HOSTS = f"{PREFIX}hosts/"
_BLOCKS = f"{PREFIX}blocks/"
_ENDPOINTS = f"{PREFIX}endpoints/"
_RESERVATIONS = f"{PREFIX}reservations/"

_KINDS: dict[str, type[Record]] = {
    NETWORKS: Network,
    _HOSTS: Host,
    _BLOCKS: Block,
    _ENDPOINTS: Endpoint,
    _RESERVATIONS: Reservation,
}


_FORMER = frozenset({"v", "address"})
"""Fields that a record's own form does not have, but that are understood."""


def network(name: NetworkName) -> str:
    return f"{NETWORKS}{name}"


def host(host_id: HostId) -> str:
    return f"{_HOSTS}{host_id}"


def blocks_of(name: NetworkName) -> str:
    """Return the prefix of a network's blocks."""
    return f"{_BLOCKS}{name}/"


def block(name: NetworkName, cidr: IpNetwork) -> str:
    return f"{blocks_of(name)}{cidr}"


def endpoints_of(name: NetworkName) -> str:
    """Return the prefix of a network's endpoints."""
    return f"{_ENDPOINTS}{name}/"


def endpoint(key: EndpointKey) -> str:
    name, host_id, container_id, interface = key
    return f"{endpoints_of(name)}{host_id}/{container_id}/{interface}"


def reservations_of(name: NetworkName) -> str:
    """Return the prefix of a network's reservations."""
    return f"{_RESERVATIONS}{name}/"


def reservation(name: NetworkName, reserved_for: ReservationName) -> str:
    return f"{reservations_of(name)}{reserved_for}"


def addresses_of(name: NetworkName) -> str:
    """Return the prefix of the claims of a network's reservations."""
    return f"{PREFIX}addresses/{name}/"


def address(name: NetworkName, reserved: IpAddress) -> str:
    """Return the claim of a reservation on an address."""
    return f"{addresses_of(name)}{reserved}"


def resting_of(name: NetworkName) -> str:
    """Return the prefix of a network's resting addresses."""
    return f"{PREFIX}resting/{name}/"


def resting(name: NetworkName, former: IpAddress) -> str:
    """Return the key that keeps the address of a former reservation from being reserved again."""
    return f"{resting_of(name)}{former}"


def withheld_of(name: NetworkName) -> str:
    """Return the prefix of a network's withheld units."""
    return f"{PREFIX}withheld/{name}/"


def withheld(name: NetworkName, unit: IpNetwork) -> str:
    """Return the key that keeps a unit, which is a range as large as a block, from becoming anybody's block."""
    return f"{withheld_of(name)}{unit}"


def vni(number: Vni) -> str:
    """Return the claim of a network on a VNI."""
    return f"{VNIS}{number}"


def number(number: HostNumber) -> str:
    """Return the claim of a host on its number."""
    return f"{NUMBERS}{number}"


def vtep(address: IpAddress) -> str:
    """Return the key of a host's claim on its underlay address.

    A host that now has another address, which is not free yet, has given up this one. Then the claim is marked as given
    up, the host's record still has the address, and any host may take the claim over.
    """
    return f"{PREFIX}vteps/{address}"


def mac(name: NetworkName, owned: MacAddress) -> str:
    """Return the key that every transaction compares and writes which gives a MAC of a network to a record.

    The records say who has the MAC: records of an earlier release have no such key, and a key may be left over.
    """
    return f"{MACS}{name}/{owned}"


def holdings(host_id: HostId) -> str:
    """Return the key that guards the blocks and endpoints of a host."""
    return f"{PREFIX}holdings/{host_id}"


def presence(host_id: HostId, controller: str) -> str:
    """Return the key that says that a host is connected to a controller.

    It names the controller too: a host that changes over is announced by its new controller before the old one notices.
    """
    return f"{presences_of(host_id)}{controller}"


def instance(host_id: HostId) -> str:
    """Return the key that names the instance of a host's agent which registered last."""
    return f"{INSTANCES}{host_id}"


def statement(host_id: HostId) -> str:
    """Return the key of the lineage in which a host has sent its statement."""
    return f"{STATEMENTS}{host_id}"


def presences_of(host_id: HostId) -> str:
    """Return the prefix of the presences of a host."""
    return f"{PRESENCE}{host_id}/"


def token(token_id: TokenId) -> str:
    """Return the key of what is known of a token."""
    return f"{TOKENS}{token_id}"


def credential(host_id: HostId) -> str:
    """Return the claim of a token to be the one credential of a host."""
    return f"{PREFIX}credentials/{host_id}"


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
        case Reservation(network=name, name=reserved_for):
            return reservation(name, reserved_for)


def is_record(key: str) -> bool:
    """Return whether a key holds a record."""
    return key.startswith(_RECORD_PREFIXES)


_RECORD_PREFIXES = tuple(_KINDS)


def kind_of(key: str) -> type[Record]:
    """Return the kind of the record that a key holds."""
    return next(kind for prefix, kind in _KINDS.items() if key.startswith(prefix))


def history_from(at: float) -> str:
    """Return where the entries of the history begin that are not older than a time, in seconds since 1970 (UTC)."""
    return f"{HISTORY}{round(max(at, 0.0) * 1e6):017}"


class Unreadable(Exception):
    """A value of the store means nothing to this controller, which then must not go on: its view would be wrong."""


def encode(value: dict[str, Json]) -> bytes:
    """Return an object as it is stored, with its version."""
    return json.dumps({"v": VALUE_VERSION, **value}, separators=(",", ":")).encode()


def decode(value: bytes) -> Fields:
    """Read an object of the store; raise `ValueError` when a newer controller wrote it."""
    fields = Fields(json.loads(value))
    if (version := fields.number("v")) > VALUE_VERSION:
        raise ValueError(f"the store holds values of version {version}, and this controller reads {VALUE_VERSION}")
    return fields


def encode_record(record: Record, unknown: Unknown = NOTHING) -> bytes:
    """Return a record as it is stored, with the fields that another version of the controller had added to it."""
    return encode(unknown.added_to(records.encode(record)))


def decode_record(key: str, value: bytes) -> tuple[Record, Unknown]:
    """Return the record stored at a key, and the fields of the value that this version does not know."""
    fields = decode(value)
    record = records.DECODERS[kind_of(key)](fields)
    return record, Unknown.of(fields.value, records.encode(record), _FORMER)


def withholding(reason: str) -> bytes:
    """Return the value of a key that withholds something: the reason, for a person who reads the store."""
    return encode({"reason": reason})


def mac_claim(holder: RecordKey) -> bytes:
    """Return the value of the key of a MAC: which record got it last, for a person who reads the store."""
    return encode({"holder": records.encode_key(holder)})


def given_up(holder: HostId) -> bytes:
    """Return the value of a claim on a VTEP address that its host does not have any more."""
    return encode({"holder": holder, "given_up": True})


def withheld_for(host_id: HostId, number: Vni) -> bytes:
    """Return the value of a key that withholds a unit for a host that uses it, in a network of this VNI.

    To a controller that does not know of that, it is in quarantine.
    """
    return encode({"reason": "quarantine", "host": host_id, "vni": number})


EMPTY = encode({})
"""The value of keys that matter by their revision alone."""


def claim(holder: NetworkName | HostId | TokenId | ReservationName) -> bytes:
    """Return the value of a claim: its holder, for a person who reads the store."""
    return encode({"holder": holder})
